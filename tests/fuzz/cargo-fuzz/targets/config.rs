#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    (ml_ids_fuzz_targets::find("config").expect("a target of that name").run)(data);
});
