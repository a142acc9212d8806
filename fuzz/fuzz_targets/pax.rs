//! PAX records: what is accepted is exactly what was there.
#![no_main]

use capas::store::pax;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(records) = pax::records(data) else {
        return;
    };
    let mut at = 0;
    for record in &records {
        let space = data[at..]
            .iter()
            .position(|b| *b == b' ')
            .expect("a length");
        let length: usize = std::str::from_utf8(&data[at..at + space])
            .expect("digits")
            .parse()
            .expect("digits");
        assert_eq!(space + record.key.len() + record.value.len() + 3, length);
        at += length;
        if let Ok(number) = pax::number(record) {
            let text = String::from_utf8_lossy(record.value);
            assert_eq!(
                text.trim_start_matches('0'),
                number.to_string().trim_start_matches('0')
            );
        }
        if let Ok(time) = pax::time(record) {
            assert!(time.nsec < 1_000_000_000);
        }
    }
    assert_eq!(at, data.len());
});
