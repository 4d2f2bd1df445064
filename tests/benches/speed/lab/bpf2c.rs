//! C as bpf2c writes it (native module contract §6): one statement for each instruction, registers as 64-bit variables, volatile
//! accesses, 32-bit arithmetic as a 64-bit operation and a mask, addresses from the runtime's tables each time.
//!
//! One thing is as it is after upstream's correction: each local call gets its own 512 bytes of stack.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bpf2sys_bytecode::{
    AluOp, AtomicOp, Callee, Condition, Extension, Function, FunctionIndex, FunctionKind, Imm64, InsnIndex,
    Instruction, Module, Operand, Reg, SwapKind, SwapWidth, Width, WordSize,
};
use bpf2sys_verifier::VerifiedModule;

use super::Error;

const LOOKUP: i32 = 1;
const TAIL_CALL: i32 = 5;
const ARRAY: u32 = 2;
/// Bytes of a function's stack.
const STACK: usize = 512;

const PRELUDE: &str = "\
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __INT8_TYPE__ int8_t;
typedef __INT16_TYPE__ int16_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;
typedef struct {
    uint64_t header[3];
    uint64_t (*address)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, void *);
    uint64_t tail_call;
} helper_data_t;
typedef struct { uint64_t header[3]; uint64_t address; uint64_t array_data; } map_data_t;
typedef struct { uint64_t header[3]; uint64_t address; } global_data_t;
typedef struct {
    uint64_t header[3];
    helper_data_t *helpers;
    map_data_t *maps;
    global_data_t *globals;
    void *functions;
} runtime_context_t;
#define LOAD(type, address) (*(volatile type *)(address))
#define STORE(type, address, value) (*(volatile type *)(address) = (type)(value))
#define LOW(value) ((value) & 0xffffffffull)
";

/// The C of a program and what it calls, and the helpers by which it knows them, in the order of its table.
pub fn write(verified: &VerifiedModule, program: FunctionIndex) -> Result<(String, Vec<u32>), Error> {
    let module = verified.module();
    let mut functions = module.reachable_from(program);
    let depth = functions.len() + 1;
    functions.push(program);
    let mut helpers = Vec::new();
    let mut text = PRELUDE.to_owned();
    for &index in &functions[..functions.len() - 1] {
        let _ = writeln!(text, "{};", heading(module.function(index)));
    }
    for &index in &functions {
        let mut writer = Writer {
            verified,
            module,
            index,
            function: module.function(index),
            helpers: &mut helpers,
            text: &mut text,
        };
        writer.function(depth)?;
    }
    Ok((text, helpers))
}

fn heading(function: &Function) -> String {
    match function.kind {
        FunctionKind::Program => format!(
            "uint64_t {}(void *context, const runtime_context_t *runtime)",
            function.name
        ),
        FunctionKind::Subprogram => format!(
            "static uint64_t {}(uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5, uint64_t r10, void *context, \
             const runtime_context_t *runtime)",
            function.name
        ),
    }
}

struct Writer<'a> {
    verified: &'a VerifiedModule,
    module: &'a Module,
    index: FunctionIndex,
    function: &'a Function,
    helpers: &'a mut Vec<u32>,
    text: &'a mut String,
}

impl Writer<'_> {
    fn function(&mut self, depth: usize) -> Result<(), Error> {
        let targets: BTreeSet<InsnIndex> = (0..self.function.instructions.len() as u32)
            .filter_map(|index| self.function.jump_target(InsnIndex(index)))
            .collect();
        let _ = writeln!(self.text, "{}\n{{", heading(self.function));
        if self.function.kind == FunctionKind::Program {
            let _ = writeln!(self.text, "    uint64_t stack[{}];", depth * STACK / 8);
            let _ = writeln!(
                self.text,
                "    uint64_t r1 = (uint64_t)context, r2 = 0, r3 = 0, r4 = 0, r5 = 0;"
            );
            let _ = writeln!(
                self.text,
                "    uint64_t r10 = (uint64_t)((uint8_t *)stack + sizeof(stack));"
            );
        }
        let _ = writeln!(self.text, "    uint64_t r0 = 0, r6 = 0, r7 = 0, r8 = 0, r9 = 0;");
        for (index, insn) in (0..).map(InsnIndex).zip(&self.function.instructions) {
            if targets.contains(&index) {
                let _ = writeln!(self.text, "l{}:;", index.0);
            }
            let statement = self.statement(index, &insn.op)?;
            let _ = writeln!(self.text, "    {statement}");
        }
        let _ = writeln!(self.text, "}}");
        Ok(())
    }

    fn statement(&mut self, index: InsnIndex, instruction: &Instruction) -> Result<String, Error> {
        let target = || self.function.jump_target(index).map_or(0, |target| target.0);
        Ok(match *instruction {
            Instruction::Alu { size, op, dst, src } => alu(size, op, dst, src),
            Instruction::Movsx { size, from, dst, src } => {
                let from = match from {
                    Extension::S8 => 8,
                    Extension::S16 => 16,
                    Extension::S32 => 32,
                };
                let (d, s) = (r(dst), r(src));
                masked(size, dst, &format!("{d} = (int64_t)(int{from}_t){s};"))
            }
            Instruction::Neg { size, dst } => masked(size, dst, &format!("{0} = -(int64_t){0};", r(dst))),
            Instruction::ByteSwap { kind, width, dst } => {
                let bits = match width {
                    SwapWidth::W16 => 16,
                    SwapWidth::W32 => 32,
                    SwapWidth::W64 => 64,
                };
                let d = r(dst);
                match kind {
                    SwapKind::ToLe => format!("{d} = (uint{bits}_t){d};"),
                    SwapKind::ToBe | SwapKind::Swap => format!("{d} = __builtin_bswap{bits}((uint{bits}_t){d});"),
                }
            }
            Instruction::LoadImm64 { dst, value } => {
                let value = match value {
                    Imm64::Constant(value) => format!("{value:#x}ull"),
                    Imm64::Map(map) => format!("runtime->maps[{}].address", map.index()),
                    Imm64::Global { section, offset } => {
                        format!("runtime->globals[{}].address + {offset}", section.index())
                    }
                    Imm64::Pseudo { src, .. } => return Err(format!("lddw of kind {src}")),
                };
                format!("{} = {value};", r(dst))
            }
            Instruction::Load {
                width,
                signed,
                dst,
                base,
                offset,
            } => {
                let (kind, wide) = if signed { ("int", "(int64_t)") } else { ("uint", "") };
                format!(
                    "{} = {wide}LOAD({kind}{}_t, {});",
                    r(dst),
                    8 * width.bytes(),
                    address(base, offset)
                )
            }
            Instruction::Store {
                width,
                base,
                offset,
                src,
            } => store(width, &address(base, offset), src),
            Instruction::Atomic {
                size,
                op,
                base,
                offset,
                src,
            } => atomic(size, op, &address(base, offset), src),
            Instruction::Jump { .. } => format!("goto l{};", target()),
            Instruction::JumpIf {
                size,
                condition,
                dst,
                src,
                ..
            } => format!("if ({}) goto l{};", compare(size, condition, dst, src), target()),
            Instruction::Call(callee) => self.call(index, callee)?,
            Instruction::Exit => "return r0;".to_owned(),
            Instruction::CallX(_) | Instruction::LegacyPacket { .. } => return Err(format!("{instruction:?}")),
        })
    }

    fn call(&mut self, index: InsnIndex, callee: Callee) -> Result<String, Error> {
        Ok(match callee {
            Callee::Helper(LOOKUP) if let Some(statement) = self.array_lookup(index) => statement,
            Callee::Helper(id) => {
                let position = self.helpers.iter().position(|&helper| helper == id as u32);
                let position = position.unwrap_or_else(|| {
                    self.helpers.push(id as u32);
                    self.helpers.len() - 1
                });
                let ends = if id == TAIL_CALL { " if (r0 == 0) return 0;" } else { "" };
                format!("r0 = runtime->helpers[{position}].address(r1, r2, r3, r4, r5, context);{ends}")
            }
            Callee::Local(function) => {
                let name = &self.module.function(function).name;
                format!("r0 = {name}(r1, r2, r3, r4, r5, r10 - {STACK}, context, runtime);")
            }
            Callee::Btf(_) => return Err("a function of another module".into()),
        })
    }

    /// A look-up in a map that is proven to be one ARRAY, in place (native module contract §6.7).
    fn array_lookup(&mut self, index: InsnIndex) -> Option<String> {
        let map = self.verified.facts(self.index).instructions[index.index()].map?;
        let definition = &self.module.maps[map.index()].definition;
        if definition.map_type != ARRAY || self.function.kind != FunctionKind::Program {
            return None;
        }
        // The helper stays in the table all the same.
        if !self.helpers.contains(&(LOOKUP as u32)) {
            self.helpers.push(LOOKUP as u32);
        }
        Some(format!(
            "{{ uint32_t key = *(uint32_t *)r2; r0 = key < {} ? runtime->maps[{}].array_data + (uint64_t)key * {} : 0; }}",
            definition.max_entries,
            map.index(),
            definition.value_size
        ))
    }
}

fn r(register: Reg) -> String {
    format!("r{}", register.number())
}

fn address(base: Reg, offset: i16) -> String {
    format!("{} + ({offset})", r(base))
}

/// An operand as 64 bits: an immediate is extended by its sign.
fn operand(src: Operand) -> String {
    match src {
        Operand::Reg(register) => r(register),
        Operand::Imm(imm) => format!("(uint64_t)(int64_t)({imm}ll)"),
    }
}

fn masked(size: WordSize, dst: Reg, statement: &str) -> String {
    match size {
        WordSize::W32 => format!("{statement} {0} = LOW({0});", r(dst)),
        WordSize::W64 => statement.to_owned(),
    }
}

fn alu(size: WordSize, op: AluOp, dst: Reg, src: Operand) -> String {
    let (d, s) = (r(dst), operand(src));
    let (bits, most) = match size {
        WordSize::W32 => (32, 31),
        WordSize::W64 => (64, 63),
    };
    let (u, i) = (format!("(uint{bits}_t)"), format!("(int{bits}_t)"));
    let plain = |sign: &str| format!("{d} {sign}= {s};");
    let statement = match op {
        AluOp::Add => plain("+"),
        AluOp::Sub => plain("-"),
        AluOp::Mul => plain("*"),
        AluOp::Or => plain("|"),
        AluOp::And => plain("&"),
        AluOp::Xor => plain("^"),
        AluOp::Mov => format!("{d} = {s};"),
        AluOp::Div => format!("{d} = {u}{s} ? {u}{d} / {u}{s} : 0;"),
        AluOp::Mod => format!("{d} = {u}{s} ? {u}{d} % {u}{s} : {u}{d};"),
        AluOp::Sdiv => format!("{d} = {i}{s} == 0 ? 0 : {i}{s} == -1 ? -{u}{d} : {u}({i}{d} / {i}{s});"),
        AluOp::Smod => format!("{d} = {i}{s} == 0 ? {u}{d} : {i}{s} == -1 ? 0 : {u}({i}{d} % {i}{s});"),
        AluOp::Lsh => format!("{d} <<= {s} & {most};"),
        AluOp::Rsh => format!("{d} = {u}{d} >> ({s} & {most});"),
        AluOp::Arsh => format!("{d} = {i}{d} >> ({s} & {most});"),
    };
    masked(size, dst, &statement)
}

fn store(width: Width, address: &str, src: Operand) -> String {
    format!("STORE(uint{}_t, {address}, {});", 8 * width.bytes(), operand(src))
}

fn atomic(size: WordSize, op: AtomicOp, address: &str, src: Reg) -> String {
    let bits = match size {
        WordSize::W32 => 32,
        WordSize::W64 => 64,
    };
    let (place, s) = (format!("(volatile uint{bits}_t *)({address})"), r(src));
    let value = format!("(uint{bits}_t){s}");
    let fetching = |name: &str, fetch: bool| {
        let call = format!("__sync_fetch_and_{name}({place}, {value});");
        if fetch { format!("{s} = {call}") } else { call }
    };
    match op {
        AtomicOp::Add { fetch } => fetching("add", fetch),
        AtomicOp::Or { fetch } => fetching("or", fetch),
        AtomicOp::And { fetch } => fetching("and", fetch),
        AtomicOp::Xor { fetch } => fetching("xor", fetch),
        AtomicOp::Xchg => format!("{s} = __atomic_exchange_n({place}, {value}, __ATOMIC_SEQ_CST);"),
        AtomicOp::Cmpxchg => format!("r0 = __sync_val_compare_and_swap({place}, (uint{bits}_t)r0, {value});"),
    }
}

fn compare(size: WordSize, condition: Condition, dst: Reg, src: Operand) -> String {
    let bits = match size {
        WordSize::W32 => 32,
        WordSize::W64 => 64,
    };
    let (sign, signed) = match condition {
        Condition::Eq => ("==", false),
        Condition::Ne => ("!=", false),
        Condition::Gt => (">", false),
        Condition::Ge => (">=", false),
        Condition::Lt => ("<", false),
        Condition::Le => ("<=", false),
        Condition::Sgt => (">", true),
        Condition::Sge => (">=", true),
        Condition::Slt => ("<", true),
        Condition::Sle => ("<=", true),
        Condition::Set => ("&", false),
    };
    let kind = if signed { "int" } else { "uint" };
    format!("({kind}{bits}_t){} {sign} ({kind}{bits}_t){}", r(dst), operand(src))
}
