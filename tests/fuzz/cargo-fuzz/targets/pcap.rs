#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    (ml_ids_fuzz_targets::find("pcap").expect("a target of that name").run)(data);
});
