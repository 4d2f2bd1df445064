//! A program that carries its driver: it writes it where it is told, and tells what it needs to use it.

use std::error::Error;

mod drivers {
    #![allow(dead_code)]
    include!(concat!(env!("OUT_DIR"), "/bpf2sys.rs"));
}

use drivers::Map;
use drivers::drop_port::{IMAGE, maps, programs, sections, types};

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args_os().nth(1) {
        std::fs::write(path, IMAGE)?;
    }
    println!("{} of type {}", programs::DROP_PORT.name, programs::DROP_PORT.program_type);
    // The types are those of the C source: this does not compile if the map's value is another one.
    let dropped: Map<u32, u64> = maps::DROPPED;
    println!("map {}: {} entry of {} bytes", dropped.name, dropped.max_entries, dropped.value_size);
    let config = types::data { port: 53_u16.to_be() };
    println!("{} is {:?} and can be {config:?}", sections::DATA.map.name, sections::DATA.initial);
    Ok(())
}
