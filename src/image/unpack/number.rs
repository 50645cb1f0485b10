//! Numbers of tar headers: octal text, or base 256 where the first bit is set (GNU).

/// A field that has to be 0 or more.
pub(super) fn unsigned(field: &[u8]) -> Option<u64> {
    u64::try_from(signed(field)?).ok()
}

/// A field that may be negative, as times may.
pub(super) fn signed(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(0x80) => base_256(&field[1..], 0),
        // All ones is the sign of a negative number; other bits beside the first would be numbers beyond 64 bits.
        Some(0xff) => base_256(&field[1..], -1),
        Some(first) if first & 0x80 != 0 => None,
        _ => octal(field),
    }
}

fn base_256(bytes: &[u8], sign: i64) -> Option<i64> {
    let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
    let filler = if sign < 0 { 0xff } else { 0 };
    if high.iter().any(|byte| *byte != filler) {
        return None;
    }
    let value = low.iter().fold(sign, |value, byte| (value << 8) | i64::from(*byte));
    ((value < 0) == (sign < 0)).then_some(value)
}

fn octal(field: &[u8]) -> Option<i64> {
    let start = field.iter().position(|b| *b != b' ').unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits
        .iter()
        .position(|b| matches!(b, 0 | b' '))
        .unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if rest.iter().any(|b| !matches!(b, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_notations_and_refuses_junk() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777777", Some(0o77_777_777_777)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\0\0\0\0\0\0\0\0", None),
            (b"\xc0\0\0\0\0\0\0\0", None),
            (b"8", None),
            (b"-1", None),
            (b"12 3", None),
            (b"1\x002", None),
            (b"0x10", None),
        ] {
            assert_eq!(signed(field), value, "{}", field.escape_ascii());
        }
        assert_eq!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
