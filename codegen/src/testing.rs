//! Modules made by hand, for the tests of this crate.

use bpf2sys_bytecode::{
    AluOp, BtfFunction, BtfFunctionIndex, Callee, Function, FunctionIndex, FunctionKind, Imm64, Insn, Instruction, Map,
    MapDefinition, MapIndex, MapOrigin, Module, Operand, Reg, Width, WordSize,
};
use bpf2sys_pe_emit::{NativeObject, SymbolPlace};
use bpf2sys_platform::{Guid, Platform};
use bpf2sys_verifier::{FunctionFacts, VerifiedModule};
use iced_x86::{Decoder, DecoderOptions};

use crate::body::Body;
use crate::lowering::{Flow, RegisterSet};
use crate::{LowerError, Optimization, Optimizations, Options};

pub(crate) const EXIT: Instruction = Instruction::Exit;

/// The register with this number.
pub(crate) fn r(number: u8) -> Reg {
    Reg::new(number).unwrap()
}

/// `dst = imm`
pub(crate) fn mov(dst: u8, imm: i32) -> Instruction {
    alu(AluOp::Mov, dst, Operand::Imm(imm))
}

/// `dst = src`
pub(crate) fn mov_reg(dst: u8, src: u8) -> Instruction {
    alu(AluOp::Mov, dst, Operand::Reg(r(src)))
}

/// A 64-bit operation.
pub(crate) fn alu(op: AluOp, dst: u8, src: Operand) -> Instruction {
    Instruction::Alu {
        size: WordSize::W64,
        op,
        dst: r(dst),
        src,
    }
}

/// `dst = *(width *)(base + offset)`
pub(crate) fn load(width: Width, dst: u8, base: u8, offset: i16) -> Instruction {
    Instruction::Load {
        width,
        signed: false,
        dst: r(dst),
        base: r(base),
        offset,
    }
}

/// `*(width *)(base + offset) = src`
pub(crate) fn store(width: Width, base: u8, offset: i16, src: Operand) -> Instruction {
    Instruction::Store {
        width,
        base: r(base),
        offset,
        src,
    }
}

/// `call id`
pub(crate) fn helper(id: i32) -> Instruction {
    Instruction::Call(Callee::Helper(id))
}

/// `call` of the function at this position of the module.
pub(crate) fn call(function: u32) -> Instruction {
    Instruction::Call(Callee::Local(FunctionIndex(function)))
}

/// `call` of the function of another Windows module at this position of [`Module::btf_functions`].
pub(crate) fn btf(function: u32) -> Instruction {
    Instruction::Call(Callee::Btf(BtfFunctionIndex(function)))
}

/// The function of another Windows module whose GUID is all `byte`.
pub(crate) fn btf_function(byte: u8, name: &str) -> BtfFunction {
    BtfFunction {
        module: Guid([byte; 16]),
        name: name.to_owned(),
    }
}

/// The built-in platform, and a provider of these functions.
pub(crate) fn offering(functions: &[BtfFunction]) -> Platform {
    let mut platform = Platform::builtin();
    let offered = |function: &BtfFunction| bpf2sys_platform::BtfFunction {
        module: function.module,
        name: function.name.clone(),
        return_type: 0,
        arguments: [0; 5],
        flags: 0,
        provider: "test".to_owned(),
        ..bpf2sys_platform::BtfFunction::default()
    };
    platform.btf_functions.extend(functions.iter().map(offered));
    platform
}

/// `dst = map`
pub(crate) fn lddw_map(dst: u8, map: u32) -> Instruction {
    Instruction::LoadImm64 {
        dst: r(dst),
        value: Imm64::Map(MapIndex(map)),
    }
}

/// A program in a section.
pub(crate) fn program(name: &str, section: &str, code: &[Instruction]) -> Function {
    Function {
        name: name.to_owned(),
        section: section.to_owned(),
        section_offset: 0,
        kind: FunctionKind::Program,
        instructions: Insn::sequence(code.iter().copied()),
    }
}

/// The body of a program of which nothing is proven. Need not end in an exit.
pub(crate) fn body(code: &[Instruction]) -> Body {
    let function = program("program", "bind", &[code, &[EXIT]].concat());
    let flow = Flow::of(&function, &FunctionFacts::default()).unwrap();
    Body::of(FunctionIndex(0), &function, &flow, |_, _| RegisterSet::ARGUMENTS)
}

/// A subprogram.
pub(crate) fn subprogram(name: &str, code: &[Instruction]) -> Function {
    Function {
        kind: FunctionKind::Subprogram,
        ..program(name, ".text", code)
    }
}

/// A map.
pub(crate) fn map(name: &str, map_type: u32, key_size: u32, value_size: u32) -> Map {
    Map {
        name: name.to_owned(),
        definition: MapDefinition {
            map_type,
            key_size,
            value_size,
            max_entries: 7,
            ..MapDefinition::default()
        },
        inner: None,
        origin: MapOrigin::Btf,
        flags: 0,
        initial_values: Vec::new(),
    }
}

/// A module without maps.
pub(crate) fn module(functions: Vec<Function>) -> Module {
    Module {
        name: "test".to_owned(),
        hash: Some(bpf2sys_bytecode::HashAlgorithm::Sha256.of(b"the object")),
        functions,
        maps: Vec::new(),
        globals: Vec::new(),
        btf_functions: Vec::new(),
        lines: Vec::new(),
        unresolved: Vec::new(),
        types: bpf2sys_bytecode::DataTypes::default(),
    }
}

/// A module with one `bind` program called `program`.
pub(crate) fn one(code: &[Instruction]) -> Module {
    module(vec![program("program", "bind", code)])
}

/// Takes a module as verified, all programs being of type `bind`.
pub(crate) fn trusted(module: Module) -> VerifiedModule {
    let platform = Platform::builtin();
    let (program_type, attach) = platform.program_type_for_section("bind").unwrap();
    VerifiedModule::assume_verified_for_instruction_tests(module, program_type, attach.attach_type)
}

/// Verifies a module.
pub(crate) fn verified(module: Module) -> VerifiedModule {
    bpf2sys_verifier::verify(module, &Platform::builtin(), &bpf2sys_verifier::Options::default()).unwrap()
}

/// Lowers a module with default options but inlining, taking it as verified.
pub(crate) fn lower(module: Module) -> Result<NativeObject, LowerError> {
    lower_without(module, &[])
}

/// The same without some other optimizations.
pub(crate) fn lower_without(module: Module, left_out: &[Optimization]) -> Result<NativeObject, LowerError> {
    let left_out = [&[Optimization::Inlining], left_out].concat();
    let options = Options {
        optimizations: left_out
            .into_iter()
            .fold(Optimizations::ALL, |made, one| made.set(one, false)),
        ..Options::default()
    };
    crate::lower(&trusted(module), &Platform::builtin(), &options).map(|lowered| lowered.object)
}

/// The x86-64 instructions of the function called `name`.
pub(crate) fn instructions(object: &NativeObject, name: &str) -> Vec<iced_x86::Instruction> {
    let range = object.functions.iter().find(|range| {
        object.symbols.iter().any(|symbol| {
            let place = SymbolPlace::Section {
                section: range.section,
                offset: range.offset,
            };
            symbol.name == name && symbol.place == place
        })
    });
    let range = range.unwrap();
    let code = &object.sections[range.section.0 as usize].data[range.offset as usize..][..range.size as usize];
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
        .into_iter()
        .collect()
}

/// The x86-64 instructions of the one program that has this code.
pub(crate) fn native(code: &[Instruction]) -> Vec<iced_x86::Instruction> {
    instructions(&lower(one(code)).unwrap(), "program")
}

/// Reads an object as a loader would, places being (section name, offset).
pub(crate) struct View<'a>(pub(crate) &'a NativeObject);

/// A byte of an object.
pub(crate) type At<'a> = (&'a str, usize);

impl<'a> View<'a> {
    /// A section's contents; panics if there is none of this name.
    pub(crate) fn section(&self, name: &str) -> &'a bpf2sys_pe_emit::Section {
        self.0.sections.iter().find(|s| s.name == name).unwrap()
    }

    /// Names of all sections.
    pub(crate) fn sections(&self) -> Vec<&'a str> {
        self.0.sections.iter().map(|s| s.name.as_str()).collect()
    }

    /// The place that the pointer at `at` points to; `None` for a null pointer.
    pub(crate) fn pointer(&self, at: At<'_>) -> Option<At<'a>> {
        let section = self.section(at.0);
        assert_eq!(section.data[at.1..at.1 + 8], [0; 8]);
        let relocation = section.relocations.iter().find(|r| r.offset as usize == at.1)?;
        assert_eq!(relocation.kind, bpf2sys_pe_emit::RelocationKind::Absolute64);
        let SymbolPlace::Section { section, offset } = self.0.symbols[relocation.symbol.0 as usize].place else {
            panic!("a pointer to an import");
        };
        let name = &self.0.sections[section.0 as usize].name;
        Some((name, usize::try_from(i64::from(offset) + relocation.addend).unwrap()))
    }

    /// Bytes at a place.
    pub(crate) fn bytes(&self, at: At<'_>, count: usize) -> &'a [u8] {
        &self.section(at.0).data[at.1..at.1 + count]
    }

    /// The little-endian number at a place.
    pub(crate) fn number(&self, at: At<'_>, bytes: usize) -> u64 {
        self.bytes(at, bytes)
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte))
    }

    /// The string that the pointer at `at` points to.
    pub(crate) fn string(&self, at: At<'_>) -> String {
        let (section, offset) = self.pointer(at).unwrap();
        let data = &self.section(section).data[offset..];
        let end = data.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(data[..end].to_vec()).unwrap()
    }

    /// Where the symbol of this name is.
    pub(crate) fn symbol(&self, name: &str) -> At<'a> {
        let symbol = self.0.symbols.iter().find(|s| s.name == name).unwrap();
        let SymbolPlace::Section { section, offset } = symbol.place else {
            panic!("an import")
        };
        (&self.0.sections[section.0 as usize].name, offset as usize)
    }
}
