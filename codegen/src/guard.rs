//! Control Flow Guard: how code calls a function whose address it has read, and what Windows is told of it.
//!
//! The address is checked by whatever Windows has put into a pointer of the image:
//!
//! | | x86-64 | ARM64 |
//! |---|---|---|
//! | the code of a program | puts the address into `rax` and calls through the pointer | puts the address into `x6` and `x15`, calls through the pointer, and calls `x6` |
//! | the pointer | `guard_dispatch_pointer` | `guard_check_pointer` |
//! | what is behind it | checks `rax` and jumps there, all arguments as they are | checks `x15` and returns, `x0` to `x8` as they are |
//!
//! Cranelift IR cannot name `rax` for that. On x86-64 it has a call through any register, of which
//! [`rewrite_x64`](crate::rewrite_x64) makes the other one in the machine code; no call through a register may remain
//! ([`check_calls`](crate::audit_x64::check_calls)). On ARM64 it calls a function that there is not, with the address as seventh argument;
//! in the machine code [`calls_arm64`](crate::calls_arm64) puts the two calls in its place.
//!
//! The address takes the place of no argument, however few a helper's prototype lists: a helper may read registers behind the end
//! of that list, and an export of a registry tells nothing of it.
//!
//! (PE format, "Control Flow Guard"; the register conventions are those of Microsoft's compiler, which LLVM's
//! `CFGuard_Check` and `CFGuard_Dispatch` follow.) In the file the pointers lead to functions that check nothing. The functions here
//! are machine code and not Cranelift IR, which can name none of these registers.

use bpf2sys_pe_emit::{Guard, LoadConfig, Machine, SectionIndex, SymbolIndex};
use zerocopy::little_endian::U64;

use crate::compile::{Target, assembled};
use crate::object::{CodeSections, ObjectWriter};
use crate::{LowerError, Options, Skeleton};

/// ARM64: the function in Cranelift IR that calls its last argument.
pub(crate) const GUARDED_CALL: &str = "guarded_call";
/// ARM64: the pointer to what checks callees.
pub(crate) const CHECK_POINTER: &str = "guard_check_pointer";
/// x86-64: the pointer through which code calls.
pub(crate) const DISPATCH_POINTER: &str = "guard_dispatch_pointer";
/// What the pointers lead to in the file.
const NO_CHECK: &str = "guard_no_check";
const NO_DISPATCH: &str = "guard_no_dispatch";
const COOKIE: &str = "security_cookie";

/// A function in machine code, which needs no frame.
struct Function {
    name: &'static str,
    code: Vec<u8>,
}

impl Function {
    fn leaf(name: &'static str, code: &[u8]) -> Function {
        Function {
            name,
            code: code.to_vec(),
        }
    }
}

/// Adds the functions and the pointers. What they are named is defined then.
pub(crate) fn add(object: &mut ObjectWriter, sections: CodeSections, options: &Options) -> Result<(), LowerError> {
    for Function { name, code } in functions(options) {
        let code = assembled(code, options).map_err(|problem| LowerError::Internal(format!("{name}: {problem}")))?;
        object.code(sections, Target::Named(name.to_owned()), name, code);
    }
    for (pointer, to) in pointers(options.machine) {
        let spot = object.structure(sections.constants, &U64::ZERO);
        let to = object.address_of(&Target::Named((*to).to_owned()))?;
        object.point_unlisted(spot, to);
        object.define(pointer, spot);
    }
    Ok(())
}

/// Adds the cookie. Nothing here needs it: no function has an array on the stack that could be overrun by what it does not
/// know. Windows seeds it in every driver.
pub(crate) fn add_cookie(object: &mut ObjectWriter, variables: SectionIndex) {
    let spot = object.structure(variables, &U64::new(LoadConfig::COOKIE));
    object.define(COOKIE, spot);
}

/// What the image tells Windows. `functions` are those that may be called by their addresses.
pub(crate) fn load_config(
    object: &ObjectWriter,
    functions: Vec<SymbolIndex>,
    options: &Options,
) -> Result<Option<LoadConfig>, LowerError> {
    if options.skeleton == Skeleton::Object {
        return Ok(None);
    }
    let symbol = |name: &str| object.symbol_of(&Target::Named(name.to_owned()));
    let guard = || {
        let dispatch = (options.machine == Machine::X64).then(|| symbol(DISPATCH_POINTER));
        Ok::<_, LowerError>(Guard {
            check: symbol(CHECK_POINTER)?,
            dispatch: dispatch.transpose()?,
            functions,
        })
    };
    Ok(Some(LoadConfig {
        security_cookie: symbol(COOKIE)?,
        guard: options.guards_calls().then(guard).transpose()?,
    }))
}

fn pointers(machine: Machine) -> &'static [(&'static str, &'static str)] {
    match machine {
        Machine::X64 => &[(CHECK_POINTER, NO_CHECK), (DISPATCH_POINTER, NO_DISPATCH)],
        Machine::Arm64 => &[(CHECK_POINTER, NO_CHECK)],
    }
}

fn functions(options: &Options) -> Vec<Function> {
    match options.machine {
        Machine::X64 => functions_x64(),
        Machine::Arm64 => functions_arm64(),
    }
}

fn functions_x64() -> Vec<Function> {
    vec![
        Function::leaf(NO_CHECK, &[0xC3]),          // ret
        Function::leaf(NO_DISPATCH, &[0xFF, 0xE0]), // jmp rax
    ]
}

fn functions_arm64() -> Vec<Function> {
    // bti c; ret
    let words = [0xD503_245F_u32, 0xD65F_03C0];
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    vec![Function::leaf(NO_CHECK, &code)]
}
