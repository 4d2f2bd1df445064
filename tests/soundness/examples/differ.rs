//! x
#![allow(warnings, missing_docs)]
use bpf2sys_soundness_tests::{generate::generate, judge::Judge};
use bpf2sys_verifier::Verifier;
use std::collections::BTreeMap;
fn main() {
    let a: Vec<u64> = std::env::args().skip(1).map(|x| x.parse().unwrap()).collect();
    let prevail = Judge {
        verifier: Verifier::Prevail,
        ..Judge::default()
    };
    let native = Judge {
        verifier: Verifier::Native,
        ..Judge::default()
    };
    let mut cells = [[0u64; 2]; 2];
    let mut why: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut gained: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for index in a[1]..a[1] + a[2] {
        let module = generate(a[0], index).module;
        let p = prevail.verified(module.clone());
        let n = native.verified(module.clone());
        cells[usize::from(p.is_ok())][usize::from(n.is_ok())] += 1;
        let strip = |s: &str| s.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        if let (Ok(_), Err(e)) = (&p, &n) {
            why.entry(strip(e)).or_default().push(index);
            if a.len() > 3 {
                println!("{index}: {e}");
            }
        }
        if let (Err(e), Ok(_)) = (&p, &n) {
            gained.entry(strip(e)).or_default().push(index);
        }
    }
    println!(
        "prevail rejects: native rejects {} accepts {}; prevail accepts: native rejects {} accepts {}",
        cells[0][0], cells[0][1], cells[1][0], cells[1][1]
    );
    for (k, v) in &why {
        println!("LOST {} {k} {:?}", v.len(), &v[..v.len().min(4)]);
    }
    let mut g: Vec<_> = gained.into_iter().collect();
    g.sort_by_key(|x| std::cmp::Reverse(x.1.len()));
    for (k, v) in g.iter().take(25) {
        println!("GAINED {} {k} {:?}", v.len(), &v[..v.len().min(3)]);
    }
}
