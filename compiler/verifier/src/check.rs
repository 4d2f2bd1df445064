//! What can be refused before any proof: calls that never end, and instructions without a meaning on Windows.
//!
//! Given: a program and the functions it reaches. Computed: the rejection, if there is one.
//! The engine would refuse most of this too, with less to say about it; and it must never see recursion or a call tree
//! of unbounded size, because it copies a function into each of its callers.

use bpf2sys_bytecode::{Callee, FunctionIndex, Imm64, InsnIndex, Instruction, Module};
use bpf2sys_platform::{Platform, ProgramType};

use crate::error::{Rejection, RejectionPlace, RejectionReason};
use crate::groups::Group;
use crate::missing;

/// Most slots of a program with a copy of every called function at each call.
const MAX_INLINED_SLOTS: u64 = 250_000;

/// The place of an instruction, for a rejection.
pub(crate) fn place(module: &Module, function: FunctionIndex, index: InsnIndex) -> Option<Box<RejectionPlace>> {
    let function = module.functions.get(function.index())?;
    let insn = function.instructions.get(index.index())?;
    Some(Box::new(RejectionPlace {
        function: function.name.clone(),
        instruction: index,
        slot: insn.slot,
        text: text(module, &insn.op),
        line: module.line(insn).cloned(),
    }))
}

/// An instruction as text, with the name of a function of another module.
fn text(module: &Module, instruction: &Instruction) -> String {
    match *instruction {
        Instruction::Call(Callee::Btf(function)) => match module.btf_functions.get(function.index()) {
            Some(named) => format!("call {} of module {}", named.name, named.module),
            None => instruction.to_string(),
        },
        _ => instruction.to_string(),
    }
}

/// Refuses a program that the proof cannot start on. Afterwards calls nest at most as deep as the platform allows and
/// never in a cycle, and every callee exists.
pub(crate) fn check(
    module: &Module,
    program: FunctionIndex,
    program_type: &ProgramType,
    platform: &Platform,
) -> Result<(), Rejection> {
    let reject = |at: Option<(FunctionIndex, InsnIndex)>, reason| Rejection {
        program: module.function(program).name.clone(),
        place: at.and_then(|(function, index)| place(module, function, index)),
        reason,
        explanation: Box::default(),
        only_by: None,
    };
    let entry = module.function(program);
    for (what, name) in [("program", &entry.name), ("section", &entry.section)] {
        if let Some(limit) = too_long(name, platform) {
            let name = name.clone();
            return Err(reject(None, RejectionReason::NameLength { what, name, limit }));
        }
    }
    let functions = std::iter::once(program).chain(module.reachable_from(program));
    for function in functions {
        let instructions = &module.function(function).instructions;
        for (i, insn) in instructions.iter().enumerate() {
            if let Some(reason) = refuse(&insn.op, module, program_type, platform) {
                return Err(reject(Some((function, InsnIndex(i as u32))), reason));
            }
        }
        if !matches!(
            instructions.last().map(|i| i.op),
            Some(Instruction::Exit | Instruction::Jump { .. })
        ) {
            let last = InsnIndex(instructions.len().saturating_sub(1) as u32);
            return Err(reject(Some((function, last)), RejectionReason::FallsOffEnd));
        }
    }
    let mut tree = CallTree {
        module,
        max_frames: platform.limits.max_call_frames as usize,
        chain: Vec::new(),
        slots: 0,
    };
    tree.visit(program, None).map_err(|(at, reason)| reject(at, reason))
}

/// How many bytes a name of a program, section or map may have, if this one has more or none: the runtime copies it into a buffer of
/// its own, and refuses to load what does not fit (native module contract §4.3, §4.4).
pub(crate) fn too_long(name: &str, platform: &Platform) -> Option<u32> {
    let limit = platform.limits.object_name_bytes.saturating_sub(1);
    let fits = !name.is_empty() && name.len() <= limit as usize;
    (!fits).then_some(limit)
}

/// Why an instruction cannot be proven for this program type, whatever is around it.
fn refuse(
    instruction: &Instruction,
    module: &Module,
    program_type: &ProgramType,
    platform: &Platform,
) -> Option<RejectionReason> {
    let unsupported = |what, group| Some(RejectionReason::UnsupportedInstruction { what, group });
    if let Some((what, group)) = Group::missing(instruction, platform) {
        return unsupported(what, Some(group));
    }
    match *instruction {
        // Neither the engines nor the lowering have these, whatever a platform offers.
        Instruction::CallX(_) => unsupported("a call through a register", Some("callx")),
        Instruction::LegacyPacket { .. } => unsupported("a legacy packet load", Some("packet")),
        Instruction::LoadImm64 {
            value: Imm64::Pseudo { .. },
            ..
        } => unsupported("this form of `lddw`", None),
        Instruction::Call(Callee::Btf(function)) => match module.btf_functions.get(function.index()) {
            Some(named) => missing::function(named, platform),
            None => Some(RejectionReason::NoSuchFunction(function.0)),
        },
        Instruction::Call(Callee::Helper(id)) => missing::helper(id, program_type, platform),
        _ => None,
    }
}

/// A walk over all chains of calls.
struct CallTree<'a> {
    module: &'a Module,
    max_frames: usize,
    /// The functions that are being called, the program first.
    chain: Vec<FunctionIndex>,
    /// Slots of all functions visited so far, once per visit.
    slots: u64,
}

type Refusal = (Option<(FunctionIndex, InsnIndex)>, RejectionReason);

impl CallTree<'_> {
    /// Visits a function that is called at a place. The recursion is as deep as `max_frames`, and `slots` bounds the number
    /// of visits.
    fn visit(&mut self, function: FunctionIndex, called_at: Option<(FunctionIndex, InsnIndex)>) -> Result<(), Refusal> {
        let names = |chain: &[FunctionIndex]| chain.iter().map(|f| self.module.function(*f).name.clone()).collect();
        self.slots += u64::from(self.module.function(function).slots());
        if self.slots > MAX_INLINED_SLOTS {
            let limit = MAX_INLINED_SLOTS;
            return Err((called_at, RejectionReason::TooLarge { limit }));
        }
        self.chain.push(function);
        if self.chain.len() > self.max_frames {
            let (chain, limit) = (names(&self.chain), self.max_frames as u32);
            return Err((called_at, RejectionReason::TooManyFrames { chain, limit }));
        }
        for (i, insn) in self.module.function(function).instructions.iter().enumerate() {
            let Instruction::Call(Callee::Local(callee)) = insn.op else {
                continue;
            };
            let at = Some((function, InsnIndex(i as u32)));
            if let Some(start) = self.chain.iter().position(|f| *f == callee) {
                let mut cycle = self.chain[start..].to_vec();
                cycle.push(callee);
                return Err((at, RejectionReason::Recursion { chain: names(&cycle) }));
            }
            self.visit(callee, at)?;
        }
        self.chain.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{Function, FunctionKind, Insn, Operand, Reg, Width, WordSize};

    use super::*;

    /// A module of these functions, of which the first is the program.
    fn module(functions: &[&[Instruction]]) -> Module {
        let function = |(i, ops): (usize, &&[Instruction])| Function {
            name: format!("f{i}"),
            section: "xdp".to_owned(),
            section_offset: 0,
            kind: if i == 0 {
                FunctionKind::Program
            } else {
                FunctionKind::Subprogram
            },
            instructions: Insn::sequence(ops.iter().copied()),
        };
        Module {
            name: "m".to_owned(),
            hash: None,
            functions: functions.iter().enumerate().map(function).collect(),
            maps: Vec::new(),
            globals: Vec::new(),
            btf_functions: Vec::new(),
            lines: Vec::new(),
            unresolved: Vec::new(),
            types: bpf2sys_bytecode::DataTypes::default(),
        }
    }

    fn refused(module: &Module) -> Option<Rejection> {
        let platform = Platform::builtin();
        let (program_type, _) = platform.program_type_for_section("xdp").unwrap();
        check(module, FunctionIndex(0), program_type, &platform).err()
    }

    fn call(function: u32) -> Instruction {
        Instruction::Call(Callee::Local(FunctionIndex(function)))
    }

    #[test]
    fn instructions_without_a_meaning_are_named() {
        let pseudo = Imm64::Pseudo {
            src: 3,
            imm: 0,
            next_imm: 0,
        };
        let cases = [
            (
                Instruction::CallX(Reg::R0),
                "a call through a register is not supported (conformance group `callx`)",
            ),
            (
                Instruction::LegacyPacket {
                    width: Width::W,
                    index: None,
                    offset: 0,
                },
                "a legacy packet load is not supported (conformance group `packet`)",
            ),
            (
                Instruction::LoadImm64 {
                    dst: Reg::R0,
                    value: pseudo,
                },
                "this form of `lddw` is not supported",
            ),
            (
                Instruction::Call(Callee::Btf(bpf2sys_bytecode::BtfFunctionIndex(0))),
                "the call names function 0 of other modules, and the object has no such function",
            ),
            (
                Instruction::Call(Callee::Helper(-1)),
                "program type `xdp` has no helper with id -1",
            ),
            (
                Instruction::Call(Callee::Helper(0)),
                "program type `xdp` has no helper with id 0",
            ),
        ];
        for (op, expected) in cases {
            // In a subprogram as in the program itself.
            for functions in [
                vec![&[op, Instruction::Exit][..]],
                vec![&[call(1), Instruction::Exit], &[op, Instruction::Exit]],
            ] {
                let rejection = refused(&module(&functions)).expect(expected);
                assert_eq!(rejection.reason.to_string(), expected);
                let place = rejection.place.unwrap();
                assert_eq!((place.function, place.slot), (format!("f{}", functions.len() - 1), 0));
            }
        }
    }

    #[test]
    fn functions_that_the_program_does_not_reach_do_not_count() {
        assert_eq!(
            refused(&module(&[&[Instruction::Exit], &[Instruction::CallX(Reg::R0)]])),
            None
        );
    }

    #[test]
    fn a_function_must_not_run_past_its_end() {
        let add = Instruction::Alu {
            size: WordSize::W64,
            op: bpf2sys_bytecode::AluOp::Mov,
            dst: Reg::R0,
            src: Operand::Imm(0),
        };
        let rejection = refused(&module(&[&[call(1), Instruction::Exit], &[add]])).unwrap();
        assert_eq!(rejection.reason, RejectionReason::FallsOffEnd);
        assert_eq!(rejection.place.map(|p| p.function), Some("f1".to_owned()));
    }

    #[test]
    fn calls_nest_eight_deep_and_no_deeper() {
        let calls: Vec<[Instruction; 2]> = (1..9).map(|next| [call(next), Instruction::Exit]).collect();
        let chain = |depth: usize| {
            let mut functions: Vec<&[Instruction]> = calls[..depth - 1].iter().map(<[_; 2]>::as_slice).collect();
            functions.push(&[Instruction::Exit]);
            module(&functions)
        };
        assert_eq!(refused(&chain(8)), None);
        let rejection = refused(&chain(9)).unwrap();
        let RejectionReason::TooManyFrames { chain, limit: 8 } = rejection.reason else {
            panic!("{rejection:?}");
        };
        assert_eq!(chain.len(), 9);
        // The call that is one too deep.
        let place = rejection.place.unwrap();
        assert_eq!((place.function.as_str(), place.slot), ("f7", 0));
    }

    #[test]
    fn a_call_tree_that_explodes_is_refused() {
        // Each of seven functions calls the next one sixteen times: 16^7 calls.
        let calls: Vec<Vec<Instruction>> = (1..8)
            .map(|next| std::iter::repeat_n(call(next), 16).chain([Instruction::Exit]).collect())
            .collect();
        let mut functions: Vec<&[Instruction]> = calls.iter().map(Vec::as_slice).collect();
        functions.push(&[Instruction::Exit]);
        let rejection = refused(&module(&functions)).unwrap();
        assert!(
            matches!(rejection.reason, RejectionReason::TooLarge { .. }),
            "{rejection:?}"
        );
    }
}
