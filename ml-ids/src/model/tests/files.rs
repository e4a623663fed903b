//! Files that are broken as files.

use super::*;

#[test]
fn every_truncation_of_a_file_is_refused() {
    let bytes = sound().encode_to_vec();
    for length in 0..bytes.len() {
        let error = load_bytes(&bytes[..length]).expect_err("a truncated file was loaded");
        assert!(!matches!(error, ModelError::Panicked(_)), "{length} bytes: {error}");
    }
}

#[test]
fn garbage_and_flipped_bytes_never_panic() {
    let sound = sound().encode_to_vec();
    let mut random = Random(99);
    for _ in 0..3000 {
        let mut bytes = sound.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        if let Err(error) = load_bytes(&bytes) {
            assert!(!matches!(error, ModelError::Panicked(_)), "{error}");
        }
    }
    for length in [1, 10, 1000] {
        let bytes: Vec<_> = (0..length).map(|_| random.below(256) as u8).collect();
        assert!(load_bytes(&bytes).is_err());
    }
}

#[test]
fn another_sha256_is_refused_before_anything_is_parsed() {
    let options = LoadOptions { sha256: Some("00".repeat(32)), ..Default::default() };
    let error = Model::from_bytes(b"no model at all", Source::Embedded, &options).unwrap_err();
    assert!(matches!(error, ModelError::Sha256 { .. }), "{error}");
    let right = Model::embedded().unwrap().sha256().to_uppercase();
    let options = LoadOptions { sha256: Some(right), ..Default::default() };
    assert!(Model::load_with(&Source::Embedded, &options).is_ok());
}

#[test]
fn millions_of_empty_messages_are_counted_before_they_are_decoded() {
    let empty = |key: u8| [key, 0].repeat(2_000_000);
    let mut graph = vec![0x3a];
    prost::encoding::encode_varint(4_000_000, &mut graph);
    graph.extend(empty(0x0a));
    assert!(load_bytes(&graph).unwrap_err().to_string().contains("operator ``"));
    let reason = load_bytes(&empty(0x42)).unwrap_err().to_string();
    assert_eq!(reason, "the model has more than 256 operator sets and metadata entries");
}

#[test]
fn lengths_of_gigabytes_are_refused_before_anything_is_made_of_them() {
    for length in [2 << 30, u64::from(u32::MAX), 1 << 40, u64::MAX] {
        for key in [0x3a, 0x72, 0x42] {
            let mut bytes = vec![key];
            prost::encoding::encode_varint(length, &mut bytes);
            bytes.extend([0; 100]);
            let reason = load_bytes(&bytes).unwrap_err().to_string();
            assert!(
                reason.starts_with("the file is cut short or is not protobuf"),
                "{length} bytes in field {}",
                key >> 3
            );
        }
    }
}

#[test]
fn a_panic_while_loading_ends_nothing_but_the_loading() {
    let error = crate::model::in_thread::<()>(|| panic!("at the {}th node", 4)).unwrap_err();
    assert!(matches!(&error, ModelError::Panicked(message) if message == "at the 4th node"), "{error}");
}
