//! Changes to the instructions of an x86-64 function that Cranelift has made.
//!
//! Given: the code of a function, what refers to places in it, and its decoded instructions.
//! Computed: the instructions with the [`Changes`] that are wanted, and the references and origins moved with them.
//! Safe because: the result is decoded again, and each instruction of it must have the bytes, the operands or the target of
//! the one that it stands for ([`Rewritten::check`]); the rules of a driver and the unwind data are made of that second
//! reading. A function with anything that moving could break keeps all of them.
//!
//! [`parts_x64`](crate::parts_x64) takes the function apart and puts it together. [`rename_x64`](crate::rename_x64) and [`jumps_x64`](crate::jumps_x64) come before, and put code together in the same way;
//! [`frame_x64`](crate::frame_x64) and [`shorten_x64`](crate::shorten_x64) say what becomes of single instructions here.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_pe_emit::RelocationKind;
use iced_x86::{Code as Op, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::addresses_x64::{folded, folds};
use crate::audit_x64::{Decoded, is_guarded_call};
use crate::calls_x64::{BeforeCalls, Unread, before_calls};
use crate::compile::{Code, Reference, Target};
use crate::frame_x64::{self, Frame};
use crate::guard;
use crate::loops_x64::with_padding;
use crate::parts_x64::{
    Encoding, Form, LOOP_ALIGNMENT, Part, Rewritten, became_something_else, with_least_displacement,
};
use crate::shorten_x64::{is_same, is_surplus, shorter};
use crate::surplus_x64::surplus;
use crate::unwind_x64::is_move;

/// What to change.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // one flag each for a change
pub(crate) struct Changes<'a> {
    /// Instructions become as short as they can be ([`shorten_x64`](crate::shorten_x64)).
    pub(crate) shorten: bool,
    /// Calls through registers become calls through the pointer of Control Flow Guard, which take the address in `rax`
    /// ([`guard`]). That is free at a call: it has no argument, and the result afterwards.
    pub(crate) guard: bool,
    /// Registers are saved by pushes ([`frame_x64`](crate::frame_x64)).
    pub(crate) frames: bool,
    /// Short loops begin at multiples of [`LOOP_ALIGNMENT`].
    pub(crate) align: bool,
    /// What is put into place for a call although the callee does not read it goes ([`calls_x64`](crate::calls_x64)): by number of
    /// eBPF instruction, what the callee of its call does not read.
    pub(crate) unread: Option<&'a BTreeMap<u32, Unread>>,
}

/// Changes what can be; nothing, if the function has something that must stay where it is.
pub(crate) fn rewrite(code: &mut Code, decoded: &Decoded, changes: Changes<'_>) -> Option<Rewritten> {
    let mut parts = Part::all(code, &decoded.instructions)?;
    let frame = changes.frames.then(|| Frame::plan(&decoded.instructions)).flatten();
    let before = changes.unread.map_or_else(BeforeCalls::default, |unread| {
        let of_origin = |call: &Instruction| unread.get(&code.origin(call.ip() as u32)?).copied();
        before_calls(&decoded.instructions, |call| of_origin(call).unwrap_or_default())
    });
    let (folds, unneeded) = if changes.shorten {
        let targets = parts.iter().filter_map(Part::target).collect();
        (
            folds(&decoded.instructions, &targets),
            surplus(&decoded.instructions, &parts),
        )
    } else {
        (BTreeMap::new(), BTreeSet::new())
    };
    let folded_addresses: BTreeSet<usize> = folds.values().copied().collect();
    // Positions of calls whose targets are in `rax` now.
    let mut in_rax = BTreeSet::new();
    for (position, (part, instruction)) in parts.iter_mut().zip(&decoded.instructions).enumerate() {
        if let Some(form) = frame.as_ref().and_then(|frame| frame.form(position, instruction)) {
            part.form = form;
            continue;
        }
        match part.form {
            Form::Jump { target, .. } if changes.shorten && target == position + 1 => part.form = Form::Removed,
            Form::Kept if instruction.flow_control() == FlowControl::IndirectCall && changes.guard => {
                let is_loaded = in_rax.contains(&position);
                part.form = guarded(instruction, is_loaded).map_or(Form::Kept, Form::Guarded);
            }
            Form::Kept if before.dropped.get(position) == Some(&true) && !part.is_relocated => {
                part.form = Form::Removed;
            }
            Form::Kept if folded_addresses.contains(&position) => part.form = Form::Removed,
            Form::Kept if let Some(address) = folds.get(&position) => {
                let new = folded(instruction, &decoded.instructions[*address])?;
                let address = *address;
                part.form = Form::Folded {
                    address,
                    new: Encoding::of(&new)?,
                };
            }
            Form::Kept
                if changes.guard
                    && !part.is_relocated
                    && let Some(call) = before.loads.get(&position)
                    && let Some(load) = loading_rax(part.bytes(&code.bytes)) =>
            {
                in_rax.insert(*call);
                part.form = Form::LoadsRax(load);
            }
            Form::Kept if unneeded.contains(&position) => part.form = Form::Removed,
            Form::Kept if instruction.flow_control() == FlowControl::Next && changes.shorten && !part.is_relocated => {
                part.form = shortened(&decoded.instructions[position..], part.bytes(&code.bytes));
            }
            _ => {}
        }
    }
    if changes.align {
        parts = with_padding(parts, &decoded.instructions);
        if parts.iter().any(|part| matches!(part.form, Form::Padding(_))) {
            code.align = LOOP_ALIGNMENT;
        }
    }
    let mut rewritten = Rewritten::assemble(parts, code, changes.shorten);
    rewritten.has_frame = frame.is_some();
    rewritten.name_pointers(code);
    Some(rewritten)
}

/// What becomes of the first instruction, which has these bytes.
fn shortened(code: &[Instruction], bytes: &[u8]) -> Form {
    if is_surplus(code) {
        return Form::Removed;
    }
    shorter(bytes).map_or(Form::Kept, Form::Shorter)
}

/// `mov r, [address]` as `mov rax, [address]`.
fn loading_rax(bytes: &[u8]) -> Option<Encoding> {
    match *bytes {
        [rex @ 0x48..=0x4F, 0x8B, modrm, ref rest @ ..] => {
            Some(Encoding::new(&[], rex & 0b1011, &[&[0x8B, modrm & 0b1100_0111], rest]))
        }
        _ => None,
    }
}

/// What a call through a register becomes; `in_rax` if that is where its target is now.
fn guarded(call: &Instruction, in_rax: bool) -> Option<Encoding> {
    const CALL: [u8; 6] = [0xFF, 0x15, 0, 0, 0, 0];
    let number = call.op0_register().number() as u8;
    // Longer is one with a prefix, which processors read differently.
    let length = if number < 8 { 2 } else { 3 };
    if call.code() != Op::Call_rm64 || call.op0_kind() != OpKind::Register || call.len() != length {
        return None;
    }
    if in_rax || call.op0_register() == Register::RAX {
        return Some(Encoding::new(&[], 0, &[&CALL]));
    }
    let load = [0x89, 0xC0 | (number & 7) << 3];
    Some(Encoding::new(&[], 8 | number >> 3 << 2, &[&load, &CALL]))
}

impl Rewritten {
    /// Guarded calls refer to the pointer, by the last four bytes.
    fn name_pointers(&self, code: &mut Code) {
        for (part, end) in self.parts.iter().zip(&self.places[1..]) {
            if matches!(part.form, Form::Guarded(_)) {
                code.references.push(Reference {
                    offset: end - 4,
                    kind: RelocationKind::Relative32,
                    target: Target::Named(guard::DISPATCH_POINTER.to_owned()),
                    addend: -4,
                    is_call: false,
                });
            }
        }
    }

    /// Checks that the code, decoded again, has the same meaning, instruction by instruction. `references` are those of
    /// the new code.
    pub(crate) fn check(
        &self,
        code: &[u8],
        references: &[Reference],
        before: &Decoded,
        after: &Decoded,
    ) -> Result<(), String> {
        let pairs = self.pairs(&before.instructions, &after.instructions)?;
        if self.has_frame {
            frame_x64::check(&before.instructions, &after.instructions, &pairs)?;
        }
        let was = &before.instructions;
        // What the address of the next call was loaded into before.
        let mut target = None;
        for pair in pairs {
            let before = pair.before;
            let same = match (pair.part.form, pair.made) {
                (Form::Removed, []) => true,
                (Form::Padding(_), made) => made.iter().all(|made| made.mnemonic() == Mnemonic::Nop),
                // Judged above.
                (Form::Frame(_), _) | (Form::Argument(_), [_]) => self.has_frame,
                (Form::Kept, [after]) => {
                    let place = after.ip() as usize..after.next_ip() as usize;
                    code.get(place) == Some(pair.part.bytes(&self.before))
                }
                (Form::Shorter(_), [after]) => is_same(before, after),
                (Form::Folded { address, .. }, [after]) => {
                    let new = folded(before, &was[address]);
                    new.is_some_and(|new| new == with_least_displacement(after))
                }
                (Form::LoadsRax(_), [after]) => {
                    target = Some(before.op0_register());
                    is_same_load(before, after) && after.op0_register() == Register::RAX
                }
                (Form::Guarded(_), [load @ .., call]) => {
                    let address = before.op0_register();
                    let is_loaded = match load {
                        [] => address == Register::RAX || target.take() == Some(address),
                        [load] => address != Register::RAX && is_move(load, Register::RAX, address),
                        _ => false,
                    };
                    before.code() == Op::Call_rm64 && is_loaded && is_guarded_call(call, references)
                }
                (Form::Jump { target, .. }, [after]) => {
                    after.condition_code() == before.condition_code()
                        && (after.is_jcc_short_or_near() || after.is_jmp_short_or_near())
                        && after.near_branch_target() == u64::from(self.places[target])
                        && before.near_branch_target() == u64::from(self.parts[target].start)
                }
                _ => false,
            };
            if !same {
                return Err(became_something_else(before));
            }
        }
        Ok(())
    }
}

/// Whether two instructions load the same into registers.
fn is_same_load(before: &Instruction, after: &Instruction) -> bool {
    before.code() == after.code()
        && before.code() == Op::Mov_r64_rm64
        && before.op1_kind() == OpKind::Memory
        && (before.memory_base(), before.memory_index()) == (after.memory_base(), after.memory_index())
        && before.memory_displacement64() == after.memory_displacement64()
        && before.memory_index_scale() == after.memory_index_scale()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use bpf2sys_pe_emit::{RelocationKind, UnwindInfo};

    use super::{Changes, rewrite};
    use crate::audit_x64::{check, check_calls, decode};
    use crate::compile::{Code, Reference, Target};
    use crate::unwind_x64;

    pub(crate) fn bytes(hex: &str) -> Vec<u8> {
        let digits: String = hex.chars().filter(char::is_ascii_hexdigit).collect();
        (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
            .collect()
    }

    pub(crate) fn code(bytes: Vec<u8>, fields: &[u32], origins: &[(u32, Option<u32>)]) -> Code {
        let reference = |&offset| Reference {
            offset,
            kind: RelocationKind::Relative32,
            target: Target::Constants,
            addend: -4,
            is_call: false,
        };
        Code {
            bytes,
            align: 16,
            constants: Vec::new(),
            references: fields.iter().map(reference).collect(),
            unwind: UnwindInfo::Leaf,
            frame_bytes: 0,
            origins: origins.to_vec(),
            ir: None,
        }
    }

    const SHORTEN: Changes<'static> = Changes {
        shorten: true,
        guard: false,
        frames: false,
        align: false,
        unread: None,
    };

    /// Shortens, and checks the result.
    fn shortened(code: &mut Code) -> bool {
        rewritten(code, SHORTEN)
    }

    /// Changes, and checks the result.
    pub(crate) fn rewritten(code: &mut Code, changes: Changes<'_>) -> bool {
        let relocated = |code: &Code| -> BTreeSet<u32> { code.references.iter().map(|r| r.offset).collect() };
        let before = decode(&code.bytes, &relocated(code)).unwrap();
        let Some(rewritten) = rewrite(code, &before, changes) else {
            return false;
        };
        let after = decode(&code.bytes, &relocated(code)).unwrap();
        rewritten.check(&code.bytes, &code.references, &before, &after).unwrap();
        check(&after.instructions).unwrap();
        if changes.guard {
            check_calls(&after.instructions, &code.references).unwrap();
        }
        true
    }

    pub(crate) fn becomes(before: &[u8], after: &[u8], name: &str) {
        let mut code = code(before.to_vec(), &[], &[]);
        assert!(shortened(&mut code), "{name}");
        assert_eq!(code.bytes, after, "{name}");
    }

    const NOP: u8 = 0x90;

    /// A jump over `between` bytes, in the long form; then a return.
    fn forward(jump: &str, between: usize) -> Vec<u8> {
        let distance = (between as u32).to_le_bytes();
        [bytes(jump), distance.to_vec(), vec![NOP; between], bytes("c3")].concat()
    }

    #[test]
    fn short_loops_begin_at_multiples_of_32_and_no_jump_runs_through_the_padding() {
        let changes = Changes { align: true, ..SHORTEN };
        let cases = [
            // inc eax; L: dec ecx; jne L; ret
            (
                "ffc0 ffc9 75fc c3",
                "ffc0 0f1f840000000000 0f1f840000000000 0f1f840000000000 660f1f440000 ffc9 75fc c3",
            ),
            // test eax, eax; je L; inc eax; L: dec ecx; jne L; ret
            (
                "85c0 7402 ffc0 ffc9 75fc c3",
                "85c0 741c ffc0 0f1f840000000000 0f1f840000000000 0f1f840000000000 6690 ffc9 75fc c3",
            ),
            // nop; jmp L; E: dec eax; je M; L: inc ecx; jmp E; M: ret: rounds begin at E
            (
                "90 eb04 ffc8 7404 ffc1 ebf8 c3",
                "90 eb21 0f1f840000000000 0f1f840000000000 0f1f840000000000 0f1f440000 ffc8 7404 ffc1 ebf8 c3",
            ),
            // jmp L; E: ret; nop; L: inc eax; jmp E leads back, and round nothing
            ("eb02 c3 90 ffc0 ebfa", "eb02 c3 90 ffc0 ebfa"),
            // L: dec ecx; jne L; ret is where it should be
            ("ffc9 75fc c3", "ffc9 75fc c3"),
        ];
        for (before, after) in cases {
            let mut code = code(bytes(before), &[], &[]);
            assert!(rewritten(&mut code, changes), "{before}");
            assert_eq!(code.bytes, bytes(after), "{before}");
        }
    }

    #[test]
    fn jumps_forward_are_short_up_to_127_bytes() {
        for (long, short) in [("0f84", 0x74), ("0f8f", 0x7F), ("e9", 0xEB)] {
            for between in [1, 126, 127] {
                let expected = [vec![short, between as u8], vec![NOP; between], bytes("c3")].concat();
                becomes(&forward(long, between), &expected, long);
            }
            let far = forward(long, 128);
            becomes(&far, &far, long);
        }
    }

    #[test]
    fn jumps_backward_are_short_up_to_128_bytes() {
        let backward = |between: usize, jump: &[u8]| [vec![NOP; between], jump.to_vec(), bytes("c3")].concat();
        for between in [0, 1, 125, 126] {
            let long = [&[0x0F, 0x85][..], &(-(between as i32) - 6).to_le_bytes()].concat();
            let short = [0x75, (-(between as i32) - 2) as u8];
            becomes(
                &backward(between, &long),
                &backward(between, &short),
                &between.to_string(),
            );
        }
        let far = backward(127, &[&[0x0F, 0x85][..], &(-133_i32).to_le_bytes()].concat());
        becomes(&far, &far, "far");
    }

    #[test]
    fn a_jump_that_gets_short_can_make_another_short() {
        // je L1 over 122 bytes, a jne L2 of 6, and nothing more: 128 bytes, 124 when the jne is short
        let before = [bytes("0f8480000000"), vec![NOP; 122], bytes("0f8501000000 90 90 c3")].concat();
        let after = [bytes("747c"), vec![NOP; 122], bytes("7501 90 90 c3")].concat();
        becomes(&before, &after, "chain");
    }

    #[test]
    fn a_chain_of_jumps_is_shortened_from_its_end() {
        // Each jump goes behind the next one: 122 bytes and 6 in between; only the last one is near at first.
        let links = 20;
        let mut before = Vec::new();
        let mut after = Vec::new();
        for link in 0..links {
            let is_last = link == links - 1;
            before.extend(bytes(if is_last { "0f847a000000" } else { "0f8480000000" }));
            after.extend(bytes(if is_last { "747a" } else { "747c" }));
            for code in [&mut before, &mut after] {
                code.extend([NOP; 122]);
            }
        }
        for code in [&mut before, &mut after] {
            code.push(0xC3);
        }
        becomes(&before, &after, "chain");
    }

    #[test]
    fn jumps_count_what_lies_between_in_its_new_length() {
        // jmp L; 18 times add rcx, 1, of 7 bytes and then of 4; two nops; L: ret. And back the same way.
        let (long, short) = (bytes("4881c101000000").repeat(19), bytes("4883c101").repeat(19));
        let before = [bytes("0f8485000000"), long.clone(), bytes("c3")].concat();
        becomes(
            &before,
            &[bytes("744c"), short.clone(), bytes("c3")].concat(),
            "forward",
        );
        let back = |length: usize, jump: usize| (-((length + jump) as i32)).to_le_bytes();
        let before = [long.clone(), bytes("e9"), back(long.len(), 5).to_vec()].concat();
        let after = [short.clone(), vec![0xEB, back(short.len(), 2)[0]]].concat();
        becomes(&before, &after, "backward");
    }

    #[test]
    fn jumps_to_the_next_instruction_vanish() {
        becomes(&bytes("e900000000 c3"), &bytes("c3"), "jmp");
        becomes(&bytes("0f8400000000 c3"), &bytes("c3"), "je");
        becomes(&bytes("eb00 e900000000 c3"), &bytes("c3"), "two");
        // je to a jump that vanishes
        becomes(
            &bytes("0f8401000000 90 e900000000 90 c3"),
            &bytes("7401 90 90 c3"),
            "its target",
        );
    }

    #[test]
    fn fields_and_origins_move_and_relocated_instructions_keep_their_bytes() {
        // je L; call f; cmp qword [constant], 5 in 32 bits; lea rax, [map]; L: add rcx, 1; ret
        let before = bytes("0f8417000000 e800000000 48813d0000000005000000 488d0500000000 4881c101000000 c3");
        let after = bytes("7417 e800000000 48813d0000000005000000 488d0500000000 4883c101 c3");
        let origins = [
            (0, None),
            (6, Some(1)),
            (11, Some(2)),
            (22, Some(3)),
            (29, Some(4)),
            (36, Some(5)),
        ];
        let mut code = code(before, &[25, 7, 14], &origins);
        assert!(shortened(&mut code));
        assert_eq!(code.bytes, after);
        let fields: Vec<u32> = code.references.iter().map(|r| r.offset).collect();
        assert_eq!(fields, [21, 3, 10]);
        let moved = [
            (0, None),
            (2, Some(1)),
            (7, Some(2)),
            (18, Some(3)),
            (25, Some(4)),
            (29, Some(5)),
        ];
        assert_eq!(code.origins, moved);
    }

    #[test]
    fn origins_of_what_vanishes_are_those_of_what_follows() {
        let mut code = code(
            bytes("90 e900000000 c3"),
            &[],
            &[(0, Some(1)), (1, Some(2)), (6, Some(3))],
        );
        assert!(shortened(&mut code));
        assert_eq!(code.origins, [(0, Some(1)), (1, Some(3))]);
    }

    #[test]
    fn epilogues_are_legal_without_a_nop() {
        let cases = [
            ("no frame", "55 4889e5 31c0 4889ec 5d c3", "55 4889e5 31c0 5d c3"),
            (
                "small frame",
                "55 4889e5 4883ec20 31c0 4883c420 4889ec 5d c3",
                "55 4889e5 4883ec20 31c0 4883c420 5d c3",
            ),
            (
                "saved register, two returns, a jump to an epilogue",
                "55 4889e5 4883ec20 4889742410 85c9 0f8414000000 7502 ffc0 488b742410 4883c420 4889ec 5d c3 \
                 ffc0 488b742410 4883c420 4889ec 5d c3",
                "55 4889e5 4883ec20 4889742410 85c9 7411 7502 ffc0 488b742410 4883c420 5d c3 \
                 ffc0 488b742410 4883c420 5d c3",
            ),
        ];
        for (name, before, after) in cases {
            let before = bytes(before);
            becomes(&before, &bytes(after), name);
            let frames = [before, bytes(after)].map(|code| {
                let frame = unwind_x64::describe(&decode(&code, &BTreeSet::new()).unwrap().instructions).unwrap();
                (frame.unwind, frame.bytes)
            });
            assert_eq!(frames[0], frames[1], "{name}");
        }
    }

    #[test]
    fn functions_with_what_must_not_move_stay() {
        let cases = [
            ("indirect jump", "4881c101000000 ffe0"),
            ("jump into an instruction", "eb01 4881c101000000 c3"),
            ("jump out of the function", "4881c101000000 e910000000"),
            ("call without a name", "4881c101000000 e800000000 c3"),
            ("jrcxz", "4881c101000000 e300 c3"),
            ("trap", "4881c101000000 0f0b c3"),
        ];
        for (name, hex) in cases {
            let mut code = code(bytes(hex), &[], &[]);
            assert!(!shortened(&mut code), "{name}");
            assert_eq!(code.bytes, bytes(hex), "{name}");
        }
    }

    #[test]
    fn the_second_reading_finds_what_became_something_else() {
        let before = bytes("4881c101000000 0f8402000000 9090 c3");
        let decoded = decode(&before, &BTreeSet::new()).unwrap();
        let mut code = code(before, &[], &[]);
        let shortened = rewrite(&mut code, &decoded, SHORTEN).unwrap();
        assert_eq!(code.bytes, bytes("4883c101 7402 9090 c3"));
        for wrong in [
            "4883c102 7402 9090 c3", // another immediate
            "4883c001 7402 9090 c3", // another register
            "83c10190 7402 9090 c3", // another width
            "4883e901 7402 9090 c3", // another operation
            "4883c101 7401 9090 c3", // another target
            "4883c101 7502 9090 c3", // another condition
            "4883c101 7402 9091 c3", // another byte
            "4883c101 7402 9090 90 c3",
            "4883c101 7402 90 c3",
        ] {
            let after = decode(&bytes(wrong), &BTreeSet::new()).unwrap();
            assert!(
                shortened.check(&bytes(wrong), &[], &decoded, &after).is_err(),
                "{wrong}"
            );
        }
    }

    const GUARD: Changes<'static> = Changes {
        shorten: false,
        guard: true,
        frames: false,
        align: false,
        unread: None,
    };
    const BOTH: Changes<'static> = Changes {
        shorten: true,
        guard: true,
        frames: false,
        align: false,
        unread: None,
    };

    #[test]
    fn calls_through_registers_become_guarded() {
        let cases = [
            ("rax", "ffd0", ""),
            ("rcx", "ffd1", "4889c8"),
            ("rbx", "ffd3", "4889d8"),
            ("rdi", "ffd7", "4889f8"),
            ("r8", "41ffd0", "4c89c0"),
            ("r10", "41ffd2", "4c89d0"),
            ("r15", "41ffd7", "4c89f8"),
        ];
        for (name, before, load) in cases {
            for changes in [GUARD, BOTH] {
                let mut code = code(bytes(&[before, "c3"].concat()), &[], &[]);
                assert!(rewritten(&mut code, changes), "{name}");
                assert_eq!(code.bytes, bytes(&[load, "ff1500000000 c3"].concat()), "{name}");
                let [pointer] = code.references.as_slice() else {
                    panic!("{name}: {:?}", code.references)
                };
                assert_eq!(pointer.offset as usize, code.bytes.len() - 5, "{name}");
                assert_eq!(
                    pointer.target,
                    Target::Named("guard_dispatch_pointer".to_owned()),
                    "{name}"
                );
                assert_eq!((pointer.addend, pointer.is_call), (-4, false), "{name}");
            }
        }
    }

    #[test]
    fn what_lies_around_a_guarded_call_moves() {
        // je L; add rcx, 1; M: call r10; lea rdx, [map]; L: jmp M; ret
        let before = bytes("0f8411000000 4881c101000000 41ffd2 488d1500000000 e9f1ffffff c3");
        let origins = [(0, Some(1)), (13, Some(2)), (16, Some(3)), (23, Some(4)), (28, None)];
        let mut code = code(before, &[19], &origins);
        assert!(rewritten(&mut code, GUARD));
        let after = bytes("0f8417000000 4881c101000000 4c89d0 ff1500000000 488d1500000000 e9ebffffff c3");
        assert_eq!(code.bytes, after);
        let fields: Vec<u32> = code.references.iter().map(|r| r.offset).collect();
        assert_eq!(fields, [25, 18]);
        let moved = [(0, Some(1)), (13, Some(2)), (22, Some(3)), (29, Some(4)), (34, None)];
        assert_eq!(code.origins, moved);
    }

    #[test]
    fn a_short_jump_over_calls_gets_long_where_it_must() {
        let jump = |opcode: &[u8], distance: usize| [opcode, &(distance as u32).to_le_bytes()].concat();
        for (short, long) in [(0x74, &[0x0F, 0x84][..]), (0xEB, &[0xE9])] {
            for (calls, stays) in [(14, true), (15, false)] {
                let before = [vec![short, 2 * calls], bytes("ffd1").repeat(calls.into()), bytes("c3")].concat();
                let distance = 9 * usize::from(calls);
                let first = if stays {
                    vec![short, distance as u8]
                } else {
                    jump(long, distance)
                };
                let call = bytes("4889c8 ff1500000000");
                let after = [first, call.repeat(calls.into()), bytes("c3")].concat();
                let mut code = code(before, &[], &[]);
                assert!(rewritten(&mut code, GUARD));
                assert_eq!(code.bytes, after, "{calls}");
            }
        }
    }

    #[test]
    fn without_shortening_nothing_but_calls_changes() {
        let before = bytes("e900000000 4881c101000000 0f8400000000 eb00 c3");
        let mut code = code(before.clone(), &[], &[]);
        assert!(rewritten(&mut code, GUARD));
        assert_eq!(code.bytes, before);
    }

    #[test]
    fn no_other_call_by_address_is_taken() {
        let cases: [(&str, &str, &[u32]); 5] = [
            ("through memory", "ff5008 c3", &[]),
            ("through another pointer", "ff1500000000 c3", &[2]),
            ("with an operand-size prefix", "66ffd0 c3", &[]),
            ("a jump", "ffe0", &[]),
            ("where nothing can move", "ffd0 0f0b c3", &[]),
        ];
        for (name, hex, fields) in cases {
            let mut code = code(bytes(hex), fields, &[]);
            let decoded = |code: &Code| {
                let relocated = code.references.iter().map(|r| r.offset).collect();
                decode(&code.bytes, &relocated).unwrap()
            };
            let before = decoded(&code);
            rewrite(&mut code, &before, BOTH);
            assert!(
                check_calls(&decoded(&code).instructions, &code.references).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn the_second_reading_finds_a_guarded_call_of_something_else() {
        let before = bytes("ffd1 ffd0 c3");
        let decoded = decode(&before, &BTreeSet::new()).unwrap();
        let mut code = code(before, &[], &[]);
        let rewritten = rewrite(&mut code, &decoded, GUARD).unwrap();
        assert_eq!(code.bytes, bytes("4889c8 ff1500000000 ff1500000000 c3"));
        for (what, wrong) in [
            ("another register", "4889d0 ff1500000000 ff1500000000 c3"),
            ("the other way round", "4889c1 ff1500000000 ff1500000000 c3"),
            ("32 bits", "89c890 ff1500000000 ff1500000000 c3"),
            ("no load", "0f1f00 ff1500000000 ff1500000000 c3"),
            ("a jump", "4889c8 ff2500000000 ff1500000000 c3"),
            ("a call through memory", "4889c8 ff9000000000 ff1500000000 c3"),
        ] {
            let fields = BTreeSet::from([5, 11]);
            let after = decode(&bytes(wrong), &fields).unwrap();
            let found = rewritten.check(&bytes(wrong), &code.references, &decoded, &after);
            assert!(found.is_err(), "{what}");
        }
        let after = decode(&code.bytes, &BTreeSet::from([5, 11])).unwrap();
        assert!(rewritten.check(&code.bytes, &[], &decoded, &after).is_err(), "no name");
    }
}
