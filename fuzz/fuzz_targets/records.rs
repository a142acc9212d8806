//! Records of layers and containers, which a crash or a stranger may damage.
#![no_main]

use capas::container::Record;
use capas::store::document::parse;
use capas::store::layer::LayerRecord;
use capas::store::steps::StepRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = parse::<LayerRecord>(data, "layer record") {
        let again = serde_json::to_vec(&record).expect("it can be written");
        assert_eq!(
            parse::<LayerRecord>(&again, "layer record").ok(),
            Some(record)
        );
    }
    if let Ok(record) = parse::<StepRecord>(data, "record of a step") {
        let again = serde_json::to_vec(&record).expect("it can be written");
        assert_eq!(
            parse::<StepRecord>(&again, "record of a step").ok(),
            Some(record)
        );
    }
    if let Ok(record) = parse::<Record>(data, "record") {
        let _ = record.short();
        let again = serde_json::to_vec(&record).expect("it can be written");
        parse::<Record>(&again, "record").expect("it can be read again");
    }
});
