#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| project_cluster::fuzz::run("drain", data));
