#![no_main]

use libfuzzer_sys::fuzz_target;
use stoa_federation_tests::fuzz;

fuzz_target!(|text: &str| fuzz::sdl(text));
