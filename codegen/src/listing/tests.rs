use bpf2sys_bytecode::{AluOp, Condition, Imm64, Instruction, Module, Operand, SourceLine, Width, WordSize};
use bpf2sys_pe_emit::{
    FunctionRange, Machine, NativeObject, Purpose, Relocation, RelocationKind, Section, SectionIndex, SectionKind,
    Symbol, SymbolIndex, SymbolPlace, UnwindInfo,
};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::VerifiedModule;

use crate::testing::{
    EXIT, alu, call, helper, lddw_map, load, map, module, mov, mov_reg, one, program, r, subprogram, trusted,
};
use crate::{Lowered, Optimizations, Options};

fn lower(module: Module) -> (VerifiedModule, Lowered) {
    lower_with(module, Optimizations::ALL)
}

fn lower_with(module: Module, optimizations: Optimizations) -> (VerifiedModule, Lowered) {
    let options = Options {
        keep_ir: true,
        optimizations,
        ..Options::default()
    };
    let verified = trusted(module);
    let lowered = crate::lower(&verified, &Platform::builtin(), &options).unwrap();
    (verified, lowered)
}

fn assembly(module: Module) -> String {
    assembly_with(module, Optimizations::ALL)
}

fn assembly_with(module: Module, optimizations: Optimizations) -> String {
    let (verified, lowered) = lower_with(module, optimizations);
    super::assembly(&verified, &Platform::builtin(), &lowered)
}

/// The rows of a function in a listing.
fn rows<'a>(listing: &'a str, function: &str) -> Vec<&'a str> {
    let heading = format!("{function}: ");
    let lines = listing.lines().skip_while(|line| !line.starts_with(&heading));
    // Two empty lines end a function; one is before a source line.
    let mut rows: Vec<&str> = Vec::new();
    for line in lines.skip(2) {
        if line.is_empty() && rows.last().is_some_and(|last| last.is_empty()) {
            break;
        }
        rows.push(line);
    }
    rows
}

/// The left and the right half of a row, without offset and bytes.
fn halves(row: &str) -> (String, String) {
    let (left, right) = row.split_at_checked(46).unwrap_or((row, ""));
    let right = right.get(32..).unwrap_or(right);
    (
        left.split_whitespace().collect::<Vec<_>>().join(" "),
        right.split_whitespace().collect::<Vec<_>>().join(" "),
    )
}

#[test]
fn shows_each_instruction_beside_its_code() {
    let listing = assembly(one(&[
        load(Width::Dw, 0, 1, 8),
        alu(AluOp::Add, 0, Operand::Imm(7)),
        EXIT,
    ]));
    let rows: Vec<_> = rows(&listing, "program").into_iter().map(halves).collect();
    let expected = [
        // The load is an operand of the addition.
        ("0 r0 = *(u64 *)(r1 + 0x8)", ""),
        ("1 r0 += 0x7", "mov eax, 7"),
        ("", "add rax, [rcx+8]"),
        ("2 exit", "ret"),
        ("", ""),
    ];
    assert_eq!(
        rows,
        expected.map(|(left, right)| (left.to_owned(), right.to_owned())),
        "{listing}"
    );
}

#[test]
fn a_function_in_pieces_is_listed_once_under_the_names_of_its_pieces() {
    let options = Options {
        most_work: 8,
        keep_ir: true,
        ..Options::default()
    };
    // Slots 1, 9 and 19 have no code of their own.
    let parts: [&[Instruction]; 5] = [
        &[load(Width::Dw, 0, 1, 8), mov(2, 5)],
        &[alu(AluOp::Mul, 0, Operand::Reg(r(0))); 7],
        &[mov(3, 5)],
        &[alu(AluOp::Mul, 0, Operand::Reg(r(0))); 9],
        &[mov(4, 5), EXIT],
    ];
    let verified = trusted(one(&parts.concat()));
    let lowered = crate::lower(&verified, &Platform::builtin(), &options).unwrap();
    let listing = super::assembly(&verified, &Platform::builtin(), &lowered);
    let pieces = lowered.functions.len() - 1;
    assert!(pieces >= 3, "{pieces}");
    assert!(
        listing.contains(&format!(
            "\nprogram: program of section `bind`, 21 eBPF instructions, in {pieces} pieces, "
        )),
        "{listing}"
    );
    let slots = |name: &str| -> Vec<u32> {
        let columns = rows(&listing, name).into_iter().filter_map(|row| row.get(..6));
        columns.filter_map(|column| column.trim().parse().ok()).collect()
    };
    assert_eq!(slots("program"), []);
    let mut all = Vec::new();
    for number in 0..pieces {
        let name = format!("program.part{number}");
        assert!(
            listing.contains(&format!("\n{name}: piece of the program program, ")),
            "{listing}"
        );
        all.extend(slots(&name));
    }
    assert_eq!(all, (0..21).collect::<Vec<u32>>(), "{listing}");
    let clif = super::clif(&verified, &Platform::builtin(), &lowered);
    assert!(
        clif.contains("\n; program.part1: piece of the program program\nfunction u2:0("),
        "{clif}"
    );
}

#[test]
fn instructions_of_inlined_subprograms_are_marked() {
    let functions = vec![
        program("main", "bind", &[call(1), EXIT]),
        subprogram("callee", &[helper(7), EXIT]),
    ];
    let listing = assembly(module(functions));
    assert!(
        listing.contains("\n    ^0  call 7 (bpf_ktime_get_boot_ns)"),
        "{listing}"
    );
    assert!(!listing.contains("callee: subprogram"), "{listing}");
}

#[test]
fn names_what_instructions_refer_to() {
    let mut module = module(vec![
        program(
            "main",
            "bind",
            &[
                lddw_map(1, 0),
                helper(7),
                call(1),
                jump_if_greater(0, 1),
                mov(0, 3),
                EXIT,
            ],
        ),
        subprogram("callee", &[mov(0, 2), EXIT]),
    ]);
    module.maps = vec![map("table", 1, 4, 4)];
    let listing = assembly_with(module, Optimizations::NONE);
    for text in [
        "r1 = map 0 ll (table)",
        "call 7 (bpf_ktime_get_boot_ns)",
        "call function 1 (callee)",
        "(to 6)",
    ] {
        assert!(listing.contains(text), "{text}:\n{listing}");
    }
    let callers = rows(&listing, "main")
        .iter()
        .filter(|row| row.ends_with("call    callee"))
        .count();
    assert_eq!(callers, 1, "{listing}");
    assert!(listing.contains("[rel __imp_NmrRegisterClient]"), "{listing}");
}

/// `if dst > 5 goto`
fn jump_if_greater(dst: u8, offset: i16) -> Instruction {
    Instruction::JumpIf {
        size: WordSize::W64,
        condition: Condition::Gt,
        dst: r(dst),
        src: Operand::Imm(5),
        offset,
    }
}

#[test]
fn branches_go_to_labels_that_exist() {
    let code = [
        load(Width::Dw, 2, 1, 0),
        mov(0, 1),
        jump_if_greater(2, 2),
        load(Width::Dw, 0, 1, 8),
        jump_if_greater(0, -4),
        EXIT,
    ];
    let (_, lowered) = lower(one(&code));
    let range = &lowered.object.functions[lowered.functions[0].range];
    let text = super::native_text(&lowered.object, range);
    let used: Vec<&str> = text
        .split_whitespace()
        .filter(|word| word.starts_with(".L") && !word.ends_with(':'))
        .collect();
    assert!(!used.is_empty(), "{text}");
    for label in used {
        assert!(text.contains(&format!("{label}:\n")), "{label}:\n{text}");
    }
}

#[test]
fn a_constant_in_memory_is_shown() {
    let constant = Instruction::LoadImm64 {
        dst: r(2),
        value: Imm64::Constant(0x1234_5678_9ABC_DEF0),
    };
    let compare = Instruction::JumpIf {
        size: WordSize::W64,
        condition: Condition::Gt,
        dst: r(1),
        src: Operand::Reg(r(2)),
        offset: 1,
    };
    let listing = assembly(one(&[constant, mov(0, 0), compare, mov(0, 1), EXIT]));
    let shown = |line: &str| line.contains("[rel .rdata+") && line.ends_with("] ; 0x123456789abcdef0");
    assert!(listing.lines().any(shown), "{listing}");
}

#[test]
fn every_byte_of_the_code_is_shown_once_and_in_order() {
    let (_, lowered) = lower(one(&[
        helper(7),
        mov_reg(6, 0),
        helper(8),
        alu(AluOp::Add, 0, Operand::Reg(r(6))),
        EXIT,
    ]));
    let object = &lowered.object;
    for range in &object.functions {
        let code = &object.sections[range.section.0 as usize].data[range.offset as usize..][..range.size as usize];
        let mut shown = Vec::new();
        for instruction in super::native_code(object, range) {
            assert_eq!(instruction.offset as usize, shown.len());
            shown.extend(instruction.bytes);
        }
        assert_eq!(shown, code);
    }
}

#[test]
fn every_instruction_is_listed_first_without_and_then_with_parentheses() {
    // Cranelift loads the helper's address before the map's.
    let mut module = one(&[mov(2, 0), lddw_map(1, 0), helper(1), EXIT]);
    module.maps = vec![map("table", 1, 4, 4)];
    let listing = assembly(module);
    let slots: Vec<String> = rows(&listing, "program")
        .into_iter()
        .filter_map(|row| row.split_whitespace().next().filter(|_| !row.starts_with("         ")))
        .map(str::to_owned)
        .collect();
    for slot in [0, 1, 3, 4] {
        let first = slots.iter().position(|found| *found == slot.to_string());
        let again = slots.iter().position(|found| *found == format!("({slot})"));
        assert_eq!(
            slots.iter().filter(|found| **found == slot.to_string()).count(),
            1,
            "{slot}:\n{listing}"
        );
        assert!(again.is_none() || first < again, "{slot}:\n{listing}");
    }
    assert!(listing.contains("   (3)  call 1 "), "{listing}");
}

#[test]
fn source_lines_are_shown_when_they_change_and_cannot_add_lines() {
    let mut module = one(&[
        load(Width::Dw, 0, 1, 0),
        load(Width::Dw, 2, 1, 8),
        alu(AluOp::Add, 0, Operand::Reg(r(2))),
        EXIT,
    ]);
    let line = |column, text: &str| SourceLine {
        file: "a\x1b.c".to_owned(),
        line: 3,
        column,
        text: text.to_owned(),
    };
    module.lines = vec![line(1, "\tone;\n\x07"), line(9, "\tone;\n\x07")];
    for (position, insn) in module.functions[0].instructions.iter_mut().enumerate() {
        insn.line = Some(bpf2sys_bytecode::LineIndex(u32::from(position > 1)));
    }
    let (verified, lowered) = lower(module);
    let texts = [
        super::assembly(&verified, &Platform::builtin(), &lowered),
        super::clif(&verified, &Platform::builtin(), &lowered),
    ];
    for text in texts {
        assert_eq!(text.matches("; a\\u{1b}.c:3: one;\\u{a}\\u{7}\n").count(), 1, "{text}");
        assert!(!text.contains('\x1b') && !text.contains('\x07'));
    }
}

#[test]
fn ir_is_read_back_as_the_functions_it_was() {
    let mut module = module(vec![
        program("main", "bind", &[call(1), EXIT]),
        subprogram("callee", &[helper(5), mov(0, 2), EXIT]),
    ]);
    module.functions[0].name = "line\nfeed".to_owned();
    let (verified, lowered) = lower(module);
    let text = super::clif(&verified, &Platform::builtin(), &lowered);
    let functions = cranelift_reader::parse_functions(&text).unwrap();
    let texts: Vec<String> = functions
        .iter()
        .map(|function| function.display().to_string())
        .collect();
    let kept: Vec<&str> = lowered
        .functions
        .iter()
        .filter_map(|function| function.ir.as_deref())
        .collect();
    assert_eq!(texts, kept);
}

/// A function of ARM64 words, with a relocation for each (word, kind, addend) against the symbol `place`.
fn arm64(words: &[u32], relocations: &[(u32, RelocationKind, i64)]) -> NativeObject {
    let section = SectionIndex(0);
    NativeObject {
        machine: Machine::Arm64,
        sections: vec![Section {
            name: ".text".to_owned(),
            kind: SectionKind::Code,
            align: 16,
            data: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            relocations: relocations
                .iter()
                .map(|(word, kind, addend)| Relocation {
                    offset: word * 4,
                    kind: *kind,
                    symbol: SymbolIndex(0),
                    addend: *addend,
                })
                .collect(),
        }],
        symbols: vec![Symbol {
            name: "place".to_owned(),
            place: SymbolPlace::Section { section, offset: 0 },
        }],
        functions: vec![FunctionRange {
            section,
            offset: 0,
            size: words.len() as u32 * 4,
            unwind: UnwindInfo::Leaf,
        }],
        imports: Vec::new(),
        purpose: Purpose::Object { exports: Vec::new() },
        load_config: None,
        shadow_stack: false,
    }
}

#[test]
fn arm64_code_has_names_and_labels_too() {
    let object = arm64(
        &[
            0x9000_0008, // adrp x8, 0
            0x9100_0108, // add x8, x8, #0
            0x9400_0000, // bl 0
            0x5400_0060, // b.eq +12
            0xB4FF_FFE0, // cbz x0, -4
            0x3618_0020, // tbz w0, #3, +4
            0xD65F_03C0, // ret
            0xFFFF_FFFF, // not an instruction
        ],
        &[
            (0, RelocationKind::Arm64Page21, 0x10),
            (1, RelocationKind::Arm64PageOffset12, 0x10),
            (2, RelocationKind::Arm64Branch26, 0),
        ],
    );
    let expected = "    adrp    x8, place+0x10
    add     x8, x8, :lo12:place+0x10
    bl      place
.L1:
    b.eq    .L2
    cbz     x0, .L1
    tbz     w0, #0x3, .L2
.L2:
    ret
    .inst   0xffffffff
";
    assert_eq!(super::native_text(&object, &object.functions[0]), expected);
}

#[test]
fn an_arm64_listing_tells_the_prologue_and_writes_instructions_as_numbers() {
    let options = Options {
        machine: Machine::Arm64,
        ..Options::default()
    };
    // The call needs a frame.
    let verified = trusted(one(&[helper(7), EXIT]));
    let lowered = crate::lower(&verified, &Platform::builtin(), &options).unwrap();
    let listing = super::assembly(&verified, &Platform::builtin(), &lowered);
    let rows = rows(&listing, "program");
    let first = "     -  prologue                                0000  d503245f                  bti     c";
    assert_eq!(rows.first(), Some(&first), "{listing}");
    let prologue = lowered.object.functions[lowered.functions[0].range]
        .unwind
        .prologue_size();
    let next = rows.iter().skip(1).find(|row| !row.starts_with("          "));
    let offset = format!("  {prologue:04x}  ");
    assert!(next.is_some_and(|row| row.contains(&offset)), "{prologue:x}\n{listing}");
}

#[test]
fn a_range_outside_of_the_object_has_no_code() {
    let object = arm64(&[0xD65F_03C0], &[]);
    for (section, offset, size) in [(1, 0, 4), (0, 4, 4), (0, u32::MAX, u32::MAX)] {
        let range = FunctionRange {
            section: SectionIndex(section),
            offset,
            size,
            unwind: UnwindInfo::Leaf,
        };
        assert!(super::native_code(&object, &range).is_empty());
    }
}
