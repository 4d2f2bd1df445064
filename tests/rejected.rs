//! Programs that must not become drivers: each is refused, with the reason and the C line that is to blame.

use std::path::PathBuf;

use libtest_mimic::{Failed, Trial};

use crate::support::{output, root, test, tool};

/// Exit status of a program that is not proven safe.
const NOT_SAFE: i32 = 4;

/// A program that must be refused.
struct Case {
    /// Name of the files in `tests/fixtures/rejected`, without `.c` and `.o`.
    fixture: &'static str,
    /// Name of the program.
    program: &'static str,
    /// Code of the error.
    code: &'static str,
    /// What the message must contain.
    message: &'static [&'static str],
    /// The line of the source that is to blame; empty if none is.
    line: &'static str,
}

const CASES: [Case; 32] = [
    Case {
        fixture: "call_through_register",
        program: "call_by_address",
        code: "BPF2002",
        message: &[
            "conformance group `callx`",
            "at instruction 2: callx r2",
            "help: call a function of this object",
        ],
        line: "return verdict(1);",
    },
    Case {
        fixture: "legacy_packet_load",
        program: "read_as_classic",
        code: "BPF2002",
        message: &[
            "conformance group `packet`",
            "at instruction 1: r0 = *(u8 *)skb[0xc]",
            "help: read through",
        ],
        line: "return load_byte(context, 12) == 8 ? XDP_DROP : XDP_PASS;",
    },
    Case {
        fixture: "packet_out_of_bounds",
        program: "read_unchecked",
        code: "BPF2101",
        message: &[
            "reads 2 bytes at offset 12 of the packet, of which no byte is proven",
            "packet_size",
            "if (data + 14 > data_end)",
        ],
        line: "return ethernet->type == bpf_htons(ETHERNET_IPV6) ? XDP_DROP : XDP_PASS;",
    },
    Case {
        fixture: "packet_off_by_one",
        program: "read_one_too_far",
        code: "BPF2101",
        message: &[
            "reads 1 byte at offset 13 of the packet, of which only the first 13 bytes are proven",
            "packet_size",
        ],
        line: "return data[13] ? XDP_DROP : XDP_PASS;",
    },
    Case {
        fixture: "packet_pointer_overwritten",
        program: "move_packet_end",
        code: "BPF2110",
        message: &["pointer field of its context"],
        line: "context->data_end = context->data;",
    },
    Case {
        fixture: "uninitialised_stack",
        program: "leak_stack",
        code: "BPF2106",
        message: &[
            "`bpf_ringbuf_output` reads 16 bytes of stack memory at r10-16, and bytes 8 to 15 of it were never written",
        ],
        line: "bpf_ringbuf_output(&events, record, sizeof(record), 0);",
    },
    Case {
        fixture: "stack_too_large",
        program: "use_too_much_stack",
        code: "BPF2104",
        message: &["writes 8 bytes at r10-520, below the 512 bytes of the stack frame"],
        line: "__asm__ volatile(\"*(u64 *)(r10 - 520) = %1\\n\\t\"",
    },
    Case {
        fixture: "key_past_stack",
        program: "look_up_past_stack",
        code: "BPF2105",
        message: &[
            "`bpf_map_lookup_elem` takes a key of map `wide` of 16 bytes, and from the buffer at r10-8 only 8 bytes of stack are left",
        ],
        line: "return bpf_map_lookup_elem(&wide, &key) ? BIND_DENY : BIND_PERMIT_SOFT;",
    },
    Case {
        fixture: "pop_past_stack",
        program: "pop_past_stack",
        code: "BPF2105",
        message: &[
            "`bpf_map_pop_elem` takes a value of map `queue` of 256 bytes, and from the buffer at r10-8 only 8 bytes",
        ],
        line: "bpf_map_pop_elem(&queue, &buffer);",
    },
    Case {
        fixture: "popped_index",
        program: "index_with_popped",
        code: "BPF2109",
        message: &["at any offset of the value of map `counters`, which can be before its start"],
        line: "slots->count[index] += 1;",
    },
    Case {
        fixture: "null_map_value",
        program: "count_unchecked",
        code: "BPF2111",
        message: &["of the value of map `counter` through a pointer that may be null"],
        line: "*value += 1;",
    },
    Case {
        fixture: "null_plus_offset",
        program: "read_second",
        code: "BPF2021",
        message: &["arithmetic on a pointer that may be null"],
        line: "uint64_t *second = &pair->second;",
    },
    Case {
        fixture: "half_pointer",
        program: "compare_halves",
        code: "BPF2022",
        message: &["low 32 bits of a pointer", "if w3 > w4"],
        line: "__asm__ goto(\"r3 = %[past]\\n\\t\"",
    },
    Case {
        fixture: "swapped_constant",
        program: "swap_constant",
        code: "BPF2023",
        message: &["byte swap"],
        line: "__asm__ volatile(\"%[value] = be64 %[value]\" : [value] \"+r\"(value));",
    },
    Case {
        fixture: "map_value_out_of_bounds",
        program: "write_past_value",
        code: "BPF2108",
        message: &["writes 8 bytes at offset 8 of the value of map `small`, which has 8 bytes"],
        line: "value[1] = 1;",
    },
    Case {
        fixture: "constant_overwritten",
        program: "raise_limit",
        code: "BPF2024",
        message: &["writes to `.rodata`", "without `const`"],
        line: "*(volatile uint32_t *)&limit = context->ingress_ifindex;",
    },
    Case {
        fixture: "null_metadata",
        program: "read_metadata",
        code: "BPF2025",
        message: &["metadata pointer", "`xdp`", "always null"],
        line: "uint32_t *metadata = (uint32_t *)context->data_meta;",
    },
    Case {
        fixture: "pointer_in_map",
        program: "leak_pointer",
        code: "BPF2131",
        message: &["`r1` is a packet pointer, and is stored through a map value pointer"],
        line: "*value = (uint64_t)context->data;",
    },
    Case {
        fixture: "return_pointer",
        program: "return_pointer",
        code: "BPF2130",
        message: &["the program returns a stack pointer", "r0.type == number"],
        line: "__asm__ volatile(\"r0 = r10\\n\\t\"",
    },
    Case {
        fixture: "unbounded_loop",
        program: "wait_forever",
        code: "BPF2170",
        message: &["loop", "not proven to end"],
        line: "while (bpf_get_prandom_u32() != 7) {",
    },
    Case {
        fixture: "recursion",
        program: "recurse",
        code: "BPF2004",
        message: &["recursion", "factorial calls factorial"],
        line: "uint64_t rest = factorial(smaller);",
    },
    Case {
        fixture: "unknown_helper",
        program: "call_unknown",
        code: "BPF2003",
        message: &[
            "`xdp` has no helper with id 4242\n",
            "help: the nearest that `xdp` has: `bpf_get_current_thread_create_time` (34)",
        ],
        line: "return bpf_no_such_helper();",
    },
    Case {
        fixture: "foreign_helper",
        program: "call_foreign",
        code: "BPF2003",
        message: &[
            "`bind` has no helper with id 65536; it is `bpf_sock_ops_get_flow_id` of type `sockops`",
            "help: `bind` has no helpers of its own",
        ],
        line: "return bpf_sock_ops_get_flow_id((bpf_sock_ops_t *)context) ? BIND_DENY : BIND_PERMIT_SOFT;",
    },
    Case {
        fixture: "linux_helper",
        program: "count_on_linux",
        code: "BPF2003",
        message: &[
            "`xdp` has no helper with id 130; on Linux it is `bpf_ringbuf_output`",
            "help: on Windows it is `bpf_ringbuf_output` (11)",
        ],
        line: "ringbuf_output_on_linux(&events, &interface, sizeof(interface), 0);",
    },
    Case {
        fixture: "unimplemented_helper",
        program: "ask_for_cookie",
        code: "BPF2026",
        message: &[
            "helper 26 (`bpf_get_socket_cookie`) has no implementation for programs of type `xdp`",
            "help: only programs of these types can call it: sock_addr",
        ],
        line: "return bpf_get_socket_cookie(context) ? XDP_PASS : XDP_DROP;",
    },
    Case {
        fixture: "nested_too_deep",
        program: "first",
        code: "BPF2005",
        message: &[
            "9 deep",
            "at most 8 frames",
            "first calls second calls third calls fourth calls fifth calls sixth calls seventh calls eighth calls ninth",
            "of function `eighth`",
        ],
        line: "LEVEL(eighth, ninth)",
    },
    Case {
        fixture: "unknown_function",
        program: "call_misspelt",
        code: "BPF2027",
        message: &[
            "the function `sample_ebpf_extension_btf_look` of module 8f6c1f83-ce4c-4b58-8b91-654a29e23b7c",
            "at instruction 6: call sample_ebpf_extension_btf_look of module 8f6c1f83",
            "help: the module offers `sample_ebpf_extension_btf_lookup`",
        ],
        line: "return sample_ebpf_extension_btf_look(context->ingress_ifindex, &buffer, sizeof(buffer)) ? XDP_DROP : XDP_PASS;",
    },
    Case {
        fixture: "function_of_unknown_module",
        program: "call_stranger",
        code: "BPF2027",
        message: &[
            "the function `classify` of module 00000000-1111-2222-3333-444444444444",
            "help: modules that are known to offer functions: 8f6c1f83-ce4c-4b58-8b91-654a29e23b7c",
        ],
        line: "return classify(context->ingress_ifindex) ? XDP_DROP : XDP_PASS;",
    },
    Case {
        fixture: "small_buffer_for_function",
        program: "offer_too_little",
        code: "BPF2105",
        message: &[
            "`sample_ebpf_extension_btf_lookup` writes 16 bytes, and from the buffer at r10-8 only 8 bytes",
            "call sample_ebpf_extension_btf_lookup of module",
        ],
        line: "return sample_ebpf_extension_btf_lookup(context->ingress_ifindex, &buffer, 16) ? XDP_DROP : XDP_PASS;",
    },
    Case {
        fixture: "misspelt_section",
        program: "misplaced",
        code: "BPF2011",
        message: &[
            "`cgroup/conect6/first`",
            "did you mean `cgroup/connect6` or `cgroup/connect4`?",
            "bind, cgroup/bind4, cgroup/bind6, ",
            "help: `--type SECTION`",
        ],
        line: "",
    },
    Case {
        fixture: "unknown_section",
        program: "no_such_hook",
        code: "BPF2011",
        message: &[
            "`kprobe/do_unlinkat` selects no program type; name",
            "cgroup/connect4",
            "xdp",
        ],
        line: "",
    },
    Case {
        fixture: "one_of_two",
        program: "bad",
        code: "BPF2101",
        message: &["reads 1 byte at offset 0 of the packet"],
        line: "return context->data[0];",
    },
];

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = CASES
        .iter()
        .map(|case| {
            test(&format!("rejected::{}_names_the_line_to_blame", case.fixture), || {
                check(case)
            })
        })
        .collect();
    trials.push(test("rejected::engines_that_disagree_are_told", disagreement));
    trials.push(test("rejected::every_fixture_has_a_case", every_fixture));
    trials.push(test(
        "rejected::nothing_is_written_for_a_rejected_program",
        nothing_written,
    ));
    trials
}

fn object(fixture: &str) -> PathBuf {
    root().join("tests/fixtures/rejected").join(fixture).with_extension("o")
}

/// The one that only PREVAIL's own arithmetic gets wrong; our engine accepts it.
const RIGHT_OF_OURS: &str = "swapped_constant";

fn check(case: &Case) -> Result<(), Failed> {
    check_with(case, "prevail", case.message)?;
    if case.fixture == RIGHT_OF_OURS {
        return Ok(());
    }
    // Its own words are others.
    check_with(case, "native", &[])
}

fn check_with(case: &Case, engine: &str, message: &[&str]) -> Result<(), Failed> {
    let out = output(tool().args(["verify", "--verifier", engine]).arg(object(case.fixture)))?;
    let told = String::from_utf8_lossy(&out.stderr);
    if out.status.code() != Some(NOT_SAFE) {
        return Err(format!("{}, not status {NOT_SAFE}:\n{told}", out.status).into());
    }
    if told.matches("error[").count() != 1 {
        return Err(format!("there should be one error:\n{told}").into());
    }
    let mut wanted = vec![format!("error[{}]", case.code), format!("program `{}`", case.program)];
    wanted.extend(message.iter().map(|&words| words.to_owned()));
    if !case.line.is_empty() {
        let file = format!("tests/fixtures/rejected/{}.c", case.fixture);
        let source = std::fs::read_to_string(root().join(&file))?;
        let number = source
            .lines()
            .position(|line| line.trim() == case.line)
            .ok_or("the line is not in the source")?;
        wanted.push(format!("--> {file}:{}:", number + 1));
        wanted.push(case.line.to_owned());
    }
    for text in wanted {
        if !told.contains(&text) {
            return Err(format!("`{text}` is not in\n{told}").into());
        }
    }
    Ok(())
}

/// What only one engine accepts is not accepted by both, and it is told which one does.
fn disagreement() -> Result<(), Failed> {
    let verify = |engine: &str| output(tool().args(["verify", "--verifier", engine]).arg(object(RIGHT_OF_OURS)));
    let status = |engine: &str| verify(engine).map(|out| out.status.code());
    let told = String::from_utf8_lossy(&verify("both")?.stderr).into_owned();
    let note = "the engines disagree: `--verifier prevail` rejects the program, `--verifier native` accepts it";
    let found = (status("native")?, status("prevail")?, status("both")?);
    if found == (Some(0), Some(NOT_SAFE), Some(NOT_SAFE)) && told.contains(note) {
        return Ok(());
    }
    Err(format!("status {found:?}\n{told}").into())
}

fn every_fixture() -> Result<(), Failed> {
    for file in std::fs::read_dir(root().join("tests/fixtures/rejected"))? {
        let path = file?.path();
        let name = path.file_stem().unwrap_or_default();
        if path.extension().is_some_and(|e| e == "c") && !CASES.iter().any(|case| name == case.fixture) {
            return Err(format!("no case for {}", path.display()).into());
        }
    }
    Ok(())
}

fn nothing_written() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let driver = folder.path().join("one_of_two.sys");
    let out = output(tool().arg("build").arg(object("one_of_two")).arg("-o").arg(&driver))?;
    if out.status.code() != Some(NOT_SAFE) {
        return Err(format!("{}, not status {NOT_SAFE}", out.status).into());
    }
    let left: Vec<_> = std::fs::read_dir(folder.path())?.collect();
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("left behind: {left:?}").into())
    }
}
