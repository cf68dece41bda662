//! The bytes of a client's HTTP/1.1 connection; the first says in what pieces the others come.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::proxy::Trial;

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let (whole, pieces) = (Trial::of(bytes, bytes.len()), Trial::of(bytes, usize::from(*piece)));
    assert_eq!(whole.requests, pieces.requests, "where reads end makes a difference");
    assert_eq!(whole.fault.is_some(), pieces.fault.is_some(), "where reads end makes a difference");
    assert!(whole.unread <= bytes.len());
});
