//! Image references: what is accepted means the same when it is read again.
#![no_main]

use copepod::image::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>()
        && let Some(tagged) = reference.tagged()
    {
        let again: Reference = tagged.parse().expect("a reference that we made");
        assert_eq!(again.tagged(), Some(tagged));
    }
});
