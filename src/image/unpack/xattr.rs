//! Which extended attributes an image may set (yardstick L8).

/// What happens to an attribute of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Set as it is.
    Keep,
    /// Left out: it speaks of the machine that made the archive.
    Drop,
    /// The layer is refused: it would speak to overlayfs or to whatever trusts root.
    Refuse,
}

/// Decides by name.
pub(super) fn judge(name: &[u8]) -> Verdict {
    if name.starts_with(b"trusted.") || name.starts_with(b"user.overlay.") {
        Verdict::Refuse
    } else if name == b"security.capability" || (name.starts_with(b"user.") && name.len() > 5) {
        Verdict::Keep
    } else {
        // Labels of another host's policy (security.selinux, security.ima), ACLs by numbers of its users.
        Verdict::Drop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l8_only_capabilities_and_user_attributes_are_kept() {
        for (name, verdict) in [
            ("security.capability", Verdict::Keep),
            ("user.x", Verdict::Keep),
            ("user.", Verdict::Drop),
            ("security.selinux", Verdict::Drop),
            ("security.capabilityx", Verdict::Drop),
            ("system.posix_acl_access", Verdict::Drop),
            ("trusted.overlay.opaque", Verdict::Refuse),
            ("trusted.x", Verdict::Refuse),
            ("user.overlay.whiteout", Verdict::Refuse),
            ("", Verdict::Drop),
        ] {
            assert_eq!(judge(name.as_bytes()), verdict, "{name}");
        }
    }
}
