//! The conformance groups of RFC 9669 §2.4, and which of them a platform offers.

use bpf2sys_bytecode::{AluOp, Instruction, SwapKind, SwapWidth, Width, WordSize};
use bpf2sys_platform::Platform;

use crate::VerifyError;

/// A conformance group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Base32,
    Base64,
    Atomic32,
    Atomic64,
    Divmul32,
    Divmul64,
    Packet,
    /// Not in the RFC; PREVAIL and platform files call the group of `callx` so.
    Callx,
}

impl Group {
    const ALL: [Group; 8] = [
        Group::Base32,
        Group::Base64,
        Group::Atomic32,
        Group::Atomic64,
        Group::Divmul32,
        Group::Divmul64,
        Group::Packet,
        Group::Callx,
    ];

    /// As the RFC writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Group::Base32 => "base32",
            Group::Base64 => "base64",
            Group::Atomic32 => "atomic32",
            Group::Atomic64 => "atomic64",
            Group::Divmul32 => "divmul32",
            Group::Divmul64 => "divmul64",
            Group::Packet => "packet",
            Group::Callx => "callx",
        }
    }

    /// The group that has all of this one and more.
    fn wider(self) -> Option<Group> {
        match self {
            Group::Base32 => Some(Group::Base64),
            Group::Atomic32 => Some(Group::Atomic64),
            Group::Divmul32 => Some(Group::Divmul64),
            _ => None,
        }
    }

    /// Whether programs of the platform may use it.
    fn offered(self, platform: &Platform) -> bool {
        let names = &platform.verifier_options.conformance_groups;
        let named = |group: Group| names.iter().any(|name| name == group.name());
        named(self) || self.wider().is_some_and(named)
    }

    /// The group of an instruction, and what instructions like it are called.
    fn of(instruction: &Instruction) -> (Group, &'static str) {
        let wide = |size: WordSize| size == WordSize::W64;
        let divmul = |op| matches!(op, AluOp::Mul | AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod);
        match *instruction {
            Instruction::Alu { size, op, .. } if divmul(op) => {
                if wide(size) {
                    (Group::Divmul64, "a 64-bit multiplication or division")
                } else {
                    (Group::Divmul32, "a 32-bit multiplication or division")
                }
            }
            Instruction::Atomic { size, .. } => {
                if wide(size) {
                    (Group::Atomic64, "a 64-bit atomic operation")
                } else {
                    (Group::Atomic32, "a 32-bit atomic operation")
                }
            }
            Instruction::LegacyPacket { .. } => (Group::Packet, "a legacy packet load"),
            Instruction::CallX(_) => (Group::Callx, "a call through a register"),
            Instruction::Alu { size, .. } | Instruction::Movsx { size, .. } | Instruction::Neg { size, .. }
                if wide(size) =>
            {
                (Group::Base64, "64-bit arithmetic")
            }
            // RFC 9669 §4.2: the unconditional swaps are of class ALU64.
            Instruction::ByteSwap { kind, width, .. } if kind == SwapKind::Swap || width == SwapWidth::W64 => {
                (Group::Base64, "this byte swap")
            }
            Instruction::JumpIf { size, .. } if wide(size) => (Group::Base64, "a 64-bit comparison"),
            Instruction::LoadImm64 { .. } => (Group::Base64, "`lddw`"),
            Instruction::Load { signed: true, .. } => (Group::Base64, "a load with sign extension"),
            Instruction::Load { width: Width::Dw, .. } | Instruction::Store { width: Width::Dw, .. } => {
                (Group::Base64, "an access of 8 bytes")
            }
            _ => (Group::Base32, "any instruction"),
        }
    }

    /// What the platform does not offer of an instruction: what it is called, and its group.
    pub(crate) fn missing(instruction: &Instruction, platform: &Platform) -> Option<(&'static str, &'static str)> {
        let (group, what) = Group::of(instruction);
        (!group.offered(platform)).then(|| (what, group.name()))
    }

    /// Refuses a platform that names a group which does not exist: whoever wrote it means something that nobody would check.
    pub(crate) fn check_names(platform: &Platform) -> Result<(), VerifyError> {
        let known = |name: &str| Group::ALL.into_iter().any(|group| group.name() == name);
        let mut names = platform.verifier_options.conformance_groups.iter();
        match names.find(|name| !known(name)) {
            Some(name) => Err(VerifyError::UnknownConformanceGroup { name: name.clone() }),
            None => Ok(()),
        }
    }
}
