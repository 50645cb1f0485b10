//! Names that say what a layer takes away (OCI image layer specification, "Whiteouts").

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// A file of that name.
    Plain,
    /// The lower layers' file of this name is gone.
    Gone(&'a [u8]),
    /// The lower layers' files in this directory are gone.
    Opaque,
    /// Bookkeeping of AUFS, which is nobody's file.
    Ignored,
    /// It can't mean anything.
    Malformed,
}

/// What the last component of an entry's name means.
pub(super) fn meaning(name: &[u8]) -> Meaning<'_> {
    let Some(rest) = name.strip_prefix(b".wh.") else {
        return Meaning::Plain;
    };
    match rest {
        b".wh..opq" => Meaning::Opaque,
        b"" | b"." | b".." => Meaning::Malformed,
        rest if rest.starts_with(b".wh.") => Meaning::Ignored,
        rest => Meaning::Gone(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l4_names_that_could_climb_mean_nothing() {
        for (name, expected) in [
            (&b"a"[..], Meaning::Plain),
            (b".wh", Meaning::Plain),
            (b".wh.a", Meaning::Gone(b"a")),
            (b".wh..a", Meaning::Gone(b".a")),
            (b".wh....", Meaning::Gone(b"...")),
            (b".wh.", Meaning::Malformed),
            (b".wh..", Meaning::Malformed),
            (b".wh...", Meaning::Malformed),
            (b".wh..wh..opq", Meaning::Opaque),
            (b".wh..wh.plnk", Meaning::Ignored),
            (b".wh..wh.", Meaning::Ignored),
        ] {
            assert_eq!(meaning(name), expected, "{}", name.escape_ascii());
        }
    }
}
