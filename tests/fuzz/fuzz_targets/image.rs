#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bpf2sys_fuzz::image::run(input));
