//! Reads case files of the `bpf_conformance` suite.
//!
//! A line `-- NAME` begins a section: `asm` or `raw` is the program, `mem` its memory, `result` the value of `r0`, `error`
//! what an engine must say when it refuses the program. `#` begins a comment.

use bpf2sys_bytecode::Slot;

use crate::assembler::{AssemblyError, assemble};

/// A case file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseFile {
    /// The program, encoded. That of `raw` where there are both.
    pub code: Vec<u8>,
    /// The program as `asm` has it, encoded; empty without that section.
    pub assembled: Vec<u8>,
    /// Initial memory.
    pub memory: Vec<u8>,
    /// `r0` at the end.
    pub result: Option<u64>,
    /// The text of the refusal that is expected.
    pub error: Option<String>,
}

/// Why a case file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseFileError {
    /// A line of the program.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    /// A section with a name that has no meaning.
    #[error("line {0}: there is no section of this name")]
    Section(usize),
    /// Text before the first section.
    #[error("line {0}: no section has begun")]
    NoSection(usize),
    /// Something else than a number where one is needed.
    #[error("line {line}: `{text}` is no {what}")]
    Number {
        /// The line's number, from 1.
        line: usize,
        /// What is there.
        text: String,
        /// What is needed.
        what: &'static str,
    },
    /// Neither `result` nor `error`.
    #[error("the case says neither a result nor an error")]
    NoExpectation,
    /// Neither `asm` nor `raw`, or nothing in it.
    #[error("the case has no program")]
    NoProgram,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Asm,
    Raw,
    Mem,
    Result,
    Error,
    /// Nothing that an engine needs: the C source, and remarks for the suite's other users.
    Other,
}

const SECTIONS: [(&str, Section); 7] = [
    ("asm", Section::Asm),
    ("raw", Section::Raw),
    ("mem", Section::Mem),
    ("result", Section::Result),
    ("error", Section::Error),
    ("c", Section::Other),
    ("no register offset", Section::Other),
];

impl CaseFile {
    /// Reads the text of a case file.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(text: &str) -> Result<CaseFile, CaseFileError> {
        let mut case = CaseFile::default();
        let (mut assembly, mut raw) = (Vec::new(), Vec::new());
        let mut section = None;
        for (number, full) in (1..).zip(text.lines()) {
            let line = full.split('#').next().unwrap_or_default().trim();
            if let Some(name) = line.strip_prefix("--") {
                match SECTIONS.iter().find(|(n, _)| *n == name.trim()) {
                    Some((_, found)) => section = Some(*found),
                    None if section == Some(Section::Other) => {} // a line of C
                    None => return Err(CaseFileError::Section(number)),
                }
                continue;
            }
            if line.is_empty() {
                continue;
            }
            match section.ok_or(CaseFileError::NoSection(number))? {
                Section::Asm => assembly.push((number, full)),
                Section::Raw => read_raw(&mut raw, number, line)?,
                Section::Mem => read_memory(&mut case.memory, number, line)?,
                Section::Result => case.result = Some(unsigned(number, line)?),
                Section::Error => case.error = Some(line.to_owned()),
                Section::Other => {}
            }
        }
        case.assembled = assemble(assembly)?.bytes();
        case.code = if raw.is_empty() { case.assembled.clone() } else { raw };
        if case.result.is_none() && case.error.is_none() {
            return Err(CaseFileError::NoExpectation);
        }
        if case.code.is_empty() {
            return Err(CaseFileError::NoProgram);
        }
        Ok(case)
    }
}

fn unsigned(line: usize, text: &str) -> Result<u64, CaseFileError> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text.starts_with('-') => text.parse::<i64>().ok().map(i64::cast_unsigned),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| CaseFileError::Number {
        line,
        text: text.to_owned(),
        what: "number of 64 bits",
    })
}

/// Slots as numbers of 64 bits, the opcode in the lowest byte.
fn read_raw(code: &mut Vec<u8>, line: usize, text: &str) -> Result<(), CaseFileError> {
    for word in text.split_whitespace() {
        let slot: [u8; Slot::SIZE] = unsigned(line, word)?.to_le_bytes();
        code.extend_from_slice(&slot);
    }
    Ok(())
}

fn read_memory(memory: &mut Vec<u8>, line: usize, text: &str) -> Result<(), CaseFileError> {
    for word in text.split_whitespace() {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let byte = u8::from_str_radix(digits, 16).map_err(|_| CaseFileError::Number {
            line,
            text: word.to_owned(),
            what: "byte in hexadecimal",
        })?;
        memory.push(byte);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{CaseFile, CaseFileError};

    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn sections_come_in_any_order_and_comments_are_dropped() {
        let text = "# a remark\n-- result\n0x2a # forty-two\n-- mem\n00 0x1\nff\n-- c\nint i = 3;\n--i;\n-- asm\nexit\n\
                    -- no register offset\ncall instruction\n";
        let case = CaseFile::read(text).unwrap();
        let expected = CaseFile {
            code: EXIT.to_vec(),
            assembled: EXIT.to_vec(),
            memory: vec![0, 1, 0xff],
            result: Some(42),
            error: None,
        };
        assert_eq!(case, expected);
    }

    #[test]
    fn a_raw_section_is_the_program() {
        let case = CaseFile::read("-- asm\nmov %r0, 1\nexit\n-- raw\n0x95\n149\n-- error\nno such thing\n").unwrap();
        assert_eq!(case.code, [EXIT, EXIT].concat());
        assert_eq!(case.assembled.len(), 16);
        assert_eq!((case.result, case.error.as_deref()), (None, Some("no such thing")));
    }

    #[test]
    fn results_are_unsigned_or_negative() {
        for (text, value) in [("0xffffffffffffffff", u64::MAX), ("-2", u64::MAX - 1), ("17", 17)] {
            let case = CaseFile::read(&format!("-- asm\nexit\n-- result\n{text}\n")).unwrap();
            assert_eq!(case.result, Some(value));
        }
    }

    #[test]
    fn says_which_line_is_wrong() {
        for (text, message) in [
            ("exit\n", "line 1: no section has begun"),
            ("-- asm\nexit\n-- foo\n", "line 3: there is no section of this name"),
            ("-- asm\nexit\n\nfoo\n", "line 4: there is no instruction `foo`"),
            ("-- mem\n00 100\n", "line 2: `100` is no byte in hexadecimal"),
            ("-- result\n0x\n", "line 2: `0x` is no number of 64 bits"),
            ("-- raw\nzz\n", "line 2: `zz` is no number of 64 bits"),
            ("-- asm\nexit\n", "the case says neither a result nor an error"),
            ("-- asm\n-- result\n0\n", "the case has no program"),
        ] {
            let error: CaseFileError = CaseFile::read(text).unwrap_err();
            assert_eq!(error.to_string(), message, "{text:?}");
        }
    }
}
