//! PAX extended headers (POSIX pax interchange format), strictly: a record that parsers could read in two ways ends the
//! layer, since that is how entries are smuggled past one of them.

use super::{UnpackError, number};

/// What extended headers say of the entry that follows; the last word on each counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    /// Seconds and nanoseconds.
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) is_sparse: bool,
}

/// Most extended attributes of an entry (yardstick L8).
const MAX_XATTRS: usize = 256;

/// Reads the records of one `x` header.
///
/// # Errors
/// One of them is malformed.
pub(super) fn parse(bytes: &[u8]) -> Result<Extended, UnpackError> {
    let mut extended = Extended::default();
    records(bytes, |key, value| extended.take(key, value))?;
    Ok(extended)
}

/// Checks a `g` header, which is for all entries that follow: only what has no effect on them is accepted.
///
/// # Errors
/// It is malformed, or would change entries, which parsers do differently.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), UnpackError> {
    let mut extended = Extended::default();
    records(bytes, |key, value| extended.take(key, value))?;
    extended.mtime = None;
    if extended == Extended::default() {
        Ok(())
    } else {
        Err(malformed("a global extended header changes the entries after it"))
    }
}

fn malformed(reason: &'static str) -> UnpackError {
    UnpackError::Archive { reason }
}

fn records(mut bytes: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> Result<(), UnpackError>) -> Result<(), UnpackError> {
    while !bytes.is_empty() {
        let space = bytes.iter().take(21).position(|b| *b == b' ');
        let length = space.and_then(|space| decimal(&bytes[..space]));
        let (Some(space), Some(length)) = (space, length) else {
            return Err(malformed("an extended header's record has no length"));
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > bytes.len() || length < space + 3 || bytes[length - 1] != b'\n' {
            return Err(malformed("an extended header's record has a wrong length"));
        }
        let record = &bytes[space + 1..length - 1];
        let Some(equals) = record.iter().position(|b| *b == b'=') else {
            return Err(malformed("an extended header's record has no value"));
        };
        each(&record[..equals], &record[equals + 1..])?;
        bytes = &bytes[length..];
    }
    Ok(())
}

fn decimal(text: &[u8]) -> Option<u64> {
    let all_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    all_digits.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

impl Extended {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        // An empty value takes the header's own back (POSIX).
        let given = !value.is_empty();
        let id = || {
            let id = decimal(value).ok_or(malformed("an extended header has a malformed number"))?;
            Ok::<_, UnpackError>(Some(id))
        };
        match key {
            b"path" | b"linkpath" if value.contains(&0) => return Err(malformed("a name has a NUL in it")),
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" => self.size = if given { id()? } else { None },
            b"uid" => self.uid = if given { id()? } else { None },
            b"gid" => self.gid = if given { id()? } else { None },
            b"mtime" => self.mtime = if given { Some(time(value)?) } else { None },
            key if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.take_xattr(name, value)?;
                }
            }
        }
        Ok(())
    }

    fn take_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        self.xattrs.retain(|(known, _)| known != name);
        if self.xattrs.len() >= MAX_XATTRS {
            return Err(malformed("an entry has more than 256 extended attributes"));
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// `[-]seconds[.fraction]`.
fn time(value: &[u8]) -> Result<(i64, u32), UnpackError> {
    let wrong = || malformed("an extended header has a malformed time");
    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if digits.is_empty() || !all_digits(digits) || !all_digits(fraction) {
        return Err(wrong());
    }
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    let nanos: u32 = format!("{fraction:0<9.9}").parse().map_err(|_| wrong())?;
    // The fraction of a negative time counts downwards; the kernel's counts upwards.
    if whole.starts_with('-') && nanos > 0 {
        let seconds = seconds.checked_sub(1).ok_or_else(wrong)?;
        return Ok((seconds, 1_000_000_000 - nanos));
    }
    Ok((seconds, nanos))
}

/// Ids that the kernel can hold; all ones means "unchanged" there.
pub(super) fn id(extended: Option<u64>, field: &[u8]) -> Option<u32> {
    let id = match extended {
        Some(id) => id,
        None => number::unsigned(field)?,
    };
    u32::try_from(id).ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str) -> Vec<u8> {
        let body = format!(" {key}={value}\n");
        let mut length = body.len() + 1;
        while length.to_string().len() + body.len() != length {
            length = length.to_string().len() + body.len();
        }
        format!("{length}{body}").into_bytes()
    }

    #[test]
    fn the_last_word_counts_and_an_empty_one_takes_back() {
        let bytes = [
            record("path", "a"),
            record("path", "b=c"),
            record("size", "12"),
            record("size", ""),
            record("mtime", "-1.25"),
            record("SCHILY.xattr.user.x", "1"),
            record("SCHILY.xattr.user.x", "2"),
            record("comment", "x"),
        ]
        .concat();
        let extended = parse(&bytes).unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"b=c"[..]));
        assert_eq!((extended.size, extended.mtime), (None, Some((-2, 750_000_000))));
        assert_eq!(extended.xattrs, [(b"user.x".to_vec(), b"2".to_vec())]);
    }

    #[test]
    fn l10_malformed_records_end_the_layer() {
        for bytes in [
            &b"5 a=b"[..],
            b"7 a=b\n",
            b"99 a=b\n",
            b"0 a=b\n",
            b"3 =\n",
            b"x a=b\n",
            b"-6 a=b\n",
            b"6 abcd",
            b"99999999999999999999999 a=b\n",
            &record("mtime", "nan"),
            &record("mtime", "1e30"),
            &record("mtime", &"9".repeat(30)),
            &record("mtime", "1.-5"),
            &record("size", "-1"),
            &record("size", "0x10"),
            &record("uid", "+1"),
            &record("path", "a\0b"),
        ] {
            assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        assert!(check_global(&record("path", "x")).is_err());
        assert!(check_global(&record("comment", "abcdef")).is_ok());
    }
}
