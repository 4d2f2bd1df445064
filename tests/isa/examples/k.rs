#![allow(missing_docs)]
use bpf2sys_isa_tests::*;
use std::time::Instant;
fn main() {
    bpf2sys_simulator::child_main_if_requested();
    let n: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    for taste in [Taste { linux: true, helpers: false }] {
    let t = Instant::now();
    let cases: Vec<Case> = (0..n).map(|i| generate(1, i, taste)).collect();
    println!("{taste:?} generated in {:?}", t.elapsed());
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(Interpreter::default()), Box::new(Interpreter::at(0x1238, 0x77_1234_5000)), Box::new(Kernel::new().unwrap()),
      Box::new(ImageEngine::new("x64", Default::default(), Placement::Program))];
    let mut all = vec![];
    for e in &mut engines { let t = Instant::now(); let r = e.run(&cases); println!("{} {:?}", e.name(), t.elapsed()); all.push(r); }
    let mut bad = 0;
    for i in 0..n as usize {
        for j in 1..engines.len() {
            if all[j][i] != all[0][i] && !(engines[j].may_refuse() && all[j][i].is_err()) {
                bad += 1;
                if bad < 6 { println!("{i} {}: {:?}\n  interp: {:?}", engines[j].name(), all[j][i], all[0][i]); }
            }
        }
    }
    println!("{bad} bad");
    }
}
