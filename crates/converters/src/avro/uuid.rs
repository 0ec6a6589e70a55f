//! UUIDs as text.

/// The UUID that `text` spells: with hyphens or without, in braces or behind `urn:uuid:`, as readers of Avro take it.
pub(super) fn parse(text: &[u8]) -> Option<[u8; 16]> {
    let bare = match text {
        [b'{', inner @ .., b'}'] if inner.len() == 36 => inner,
        _ => match text.split_at_checked(9) {
            Some((b"urn:uuid:", inner)) if inner.len() == 36 => inner,
            _ => text,
        },
    };
    let hyphens = match bare.len() {
        32 => false,
        36 => true,
        _ => return None,
    };
    let mut bytes = [0; 16];
    let mut rest = bare.iter();
    for (index, byte) in bytes.iter_mut().enumerate() {
        if hyphens && matches!(index, 4 | 6 | 8 | 10) && *rest.next()? != b'-' {
            return None;
        }
        let mut digit = || char::from(*rest.next()?).to_digit(16);
        *byte = u8::try_from(digit()? << 4 | digit()?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_are_one_uuid() {
        let bytes = Some(*b"\x6b\xa7\xb8\x10\x9d\xad\x11\xd1\x80\xb4\x00\xc0\x4f\xd4\x30\xc8");
        for text in [
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "6BA7B8109DAD11D180B400C04FD430C8",
            "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
            "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        ] {
            assert_eq!(parse(text.as_bytes()), bytes, "{text}");
        }
        for text in [
            "",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c",
            "6ba7b810-9dad-11d1-80b4-00c04fd430cg",
            "6ba7b8109-dad-11d1-80b4-00c04fd430c8",
            "6ba7b8109dad11d180b400c04fd430-8",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
