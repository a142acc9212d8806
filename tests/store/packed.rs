//! An archive with a file `f`, in ways that people compress one and layers are
//! not.

use base64::Engine as _;

const XZ: &str = "/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4Cf/AHZdADMAM1AYaImDAdziU5IPeaU/FeEquUE4DidhuApR6j6qjXJriDbQkD9dL9YKkXQzZ2NLmaVArPKgpoN9kAm84qsTKK9GimL873gFUT59lcQ/zwBCt5NgPmMk6M9/pRrNmCF75xdb5jRIzYo5+3tjx0JjmCICTAAAAAAcPzQpbN/YEgABkgGAUAAArtJ+L7HEZ/sCAAAAAARZWg==";
const BZIP2: &str = "QlpoOTFBWSZTWQOMFcEAAH57kNkQAMRAAG+AAADnqx5QBAAACCAAdRE0ZI9QANNBpgg2qEGgBoAAHGv2lUrhCU0oIFC6EjuXtZIJCYL1qXV8SB7AU81biAMB3IvywQ+CJrHIaLCEupeNrGEZjNdCp3XQBL8XckU4UJADjBXB";

fn decoded(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

pub fn xz() -> Vec<u8> {
    decoded(XZ)
}

pub fn bzip2() -> Vec<u8> {
    decoded(BZIP2)
}
