#![allow(missing_docs)]
use bpf2sys_isa_tests::*;
use std::collections::BTreeMap;
fn main() {
    let n: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let t = std::time::Instant::now();
    let cases: Vec<Case> = (0..n).map(|i| generate(1, i, Taste { linux: true, helpers: false })).collect();
    let insns: usize = cases.iter().map(|c| c.module.functions.iter().map(|f| f.instructions.len()).sum::<usize>()).sum();
    println!("generated in {:?}, {} instructions each", t.elapsed(), insns as f64 / n as f64);
    if n == 1 { for f in &cases[0].module.functions { for i in &f.instructions { println!("{:4} {}", i.slot, i.op);} println!(); } }
    let mut k = Kernel::new().unwrap();
    let t = std::time::Instant::now();
    let mut why: BTreeMap<String, (u64, usize)> = BTreeMap::new();
    let mut ok = 0;
    let mut slow = std::time::Duration::ZERO;
    for (i, c) in cases.iter().enumerate() {
        let t = std::time::Instant::now();
        match k.run(std::slice::from_ref(c)).remove(0) {
            Ok(_) => ok += 1,
            Err(e) => { let e: String = e.chars().map(|c| if c.is_ascii_digit() {'#'} else {c}).collect(); why.entry(e).or_insert((0, i)).0 += 1 }
        }
        slow = slow.max(t.elapsed());
    }
    println!("{ok} of {n} in {:?}, slowest {slow:?}", t.elapsed());
    let mut why: Vec<_> = why.into_iter().collect(); why.sort_by_key(|w| std::cmp::Reverse(w.1.0));
    for (w, (n, first)) in why.iter().take(20) { println!("{n:6} {w} (first: {first})"); }
}
