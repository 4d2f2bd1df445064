//! What has no counterpart is refused, each with its reason.

use bpf2sys_bytecode::Module;
use bpf2sys_platform::Platform;
use bpf2sys_retarget::{Use, linux, outline, retarget};
use bpf2sys_verifier::{Options, verify};
use libtest_mimic::Failed;

use super::compiled_with;

/// The number of the program in `refused.c`, the type of its map, what else is defined, and part of the reason.
const REFUSED: [(u32, u32, &str, &str); 30] = [
    (1, 2, "", "helper bpf_redirect has no counterpart"),
    (2, 14, "", "helper bpf_redirect_map has no counterpart"),
    (3, 2, "", "helper bpf_sk_lookup_tcp has no counterpart"),
    (
        4,
        2,
        "",
        "field egress_ifindex: Only readable by programs in device maps",
    ),
    (5, 2, "", "helper bpf_get_current_uid_gid has no counterpart"),
    (6, 2, "", "helper bpf_bind has no counterpart"),
    (7, 2, "", "field sk: Socket object"),
    (
        8,
        2,
        "",
        "Linux has field user_ip6 in no program of section cgroup/connect4",
    ),
    (
        9,
        2,
        "",
        "field user_port: a store has no effect on Windows in section cgroup/bind4",
    ),
    (
        10,
        2,
        "",
        "Linux allows no stores of 4 bytes at 28 of struct bpf_sock_addr, in field family",
    ),
    (11, 2, "", "it may return other numbers than 0 to 1"),
    (12, 2, "", "it may return other numbers than 0 to 3"),
    (13, 2, "", "it may return other numbers than 0 to 1"),
    (
        14,
        2,
        "",
        "Windows has nothing like programs of section cgroup/post_bind4",
    ),
    (15, 2, "", "Windows has nothing like programs of section xdp/devmap"),
    (16, 2, "", "Windows has nothing like programs of section tc"),
    (
        17,
        2,
        "",
        "Linux allows no loads of 2 bytes at 36 of struct bpf_sock_addr, in field protocol",
    ),
    (
        18,
        30,
        "",
        "map map is of type BPF_MAP_TYPE_BLOOM_FILTER, which has no counterpart",
    ),
    (
        18,
        15,
        "",
        "map map is of type BPF_MAP_TYPE_SOCKMAP, which has no counterpart: no socket redirection",
    ),
    (
        18,
        1,
        "-DFLAGS=0x1000",
        "map map has flag BPF_F_INNER_MAP, which has no counterpart",
    ),
    (19, 2, "", "is a program, and other functions call it"),
    (20, 2, "", "is part of programs of types sock_addr and sockops"),
    (
        21,
        2,
        "",
        "the address is that of the context in one case and of other memory in another",
    ),
    (22, 27, "", "its size is no constant from 1 to 1048576"),
    (23, 27, "", "its record is neither sent nor dropped on a way to the end"),
    (
        24,
        2,
        "",
        "which call of bpf_ringbuf_reserve made its record is not known here",
    ),
    (25, 27, "", "its record of 600 bytes does not fit on the stack"),
    (26, 2, "", "the text that it compares with is not known here"),
    (27, 2, "", "how many ticks a second has is not known"),
    (28, 2, "", "which function it calls is not known here"),
];

/// What of a module is refused.
fn judged(module: Module) -> Result<Vec<String>, String> {
    let reasons = |uses: &[Use]| uses.iter().filter_map(Use::blocked).map(str::to_owned).collect();
    let outlined: Vec<String> = reasons(&outline(&module));
    let verified = match verify(module, linux(), &Options::default()) {
        Ok(verified) => verified,
        Err(_) if !outlined.is_empty() => return Ok(outlined),
        Err(error) => return Err(format!("on Linux: {error}")),
    };
    let made = retarget(&verified, &Platform::builtin());
    match made.module {
        None => Ok(reasons(&made.uses)),
        Some(_) => Err("it is not refused".into()),
    }
}

pub fn refused() -> Result<(), Failed> {
    for (number, map_type, defined, expected) in REFUSED {
        let mut options = vec![format!("-DREFUSED={number}"), format!("-DMAP={map_type}")];
        options.extend((!defined.is_empty()).then(|| defined.to_owned()));
        // Not all programs use all that is declared.
        options.push("-Wno-unused".into());
        let module = compiled_with("refused", &options)?;
        let blocked = judged(module).map_err(|e| format!("{number}, with map type {map_type}: {e}"))?;
        if !blocked.iter().any(|b| b.contains(expected)) {
            return Err(format!("{number}: not `{expected}`: {blocked:#?}").into());
        }
    }
    Ok(())
}
