//! Looks into the eBPF object for anything that can panic.
//!
//! The kernel programs have a panic handler because the compiler asks for one. If nothing calls it, no bounds check,
//! overflow check or `unwrap` is left in them.

use std::{fs, path::Path};

use anyhow::Context as _;
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SectionKind, SymbolKind,
};

/// The handler itself, under whichever mangling.
const HANDLER: &str = "rust_begin_unwind";
/// Bytes of an instruction (RFC 9669).
const INSTRUCTION: usize = 8;
const CALL: u8 = 0x85;
const LOAD_WIDE: u8 = 0x18;
/// Source register of a call of another function of the program.
const LOCAL_CALL: u8 = 1;

/// A function by where it stands.
struct Function {
    name: String,
    section: SectionIndex,
    start: u64,
    end: u64,
}

/// What was looked at, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) functions: usize,
    pub(crate) calls: usize,
    pub(crate) faults: Vec<String>,
}

/// Reads an object file.
pub(crate) fn check(file: &Path) -> anyhow::Result<Findings> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    check_bytes(&bytes).with_context(|| format!("{} is not an eBPF object", file.display()))
}

fn check_bytes(bytes: &[u8]) -> anyhow::Result<Findings> {
    let object = object::File::parse(bytes)?;
    let mut findings = Findings::default();
    let mut functions = Vec::new();
    for symbol in object.symbols() {
        let name = symbol.name().unwrap_or_default();
        if may_panic(name) && !name.contains(HANDLER) {
            findings.faults.push(format!("it contains the symbol {name}"));
        }
        if symbol.kind() == SymbolKind::Text
            && let Some(section) = symbol.section_index()
        {
            let (start, end) = (symbol.address(), symbol.address().saturating_add(symbol.size()));
            functions.push(Function { name: name.to_owned(), section, start, end });
        }
    }
    findings.functions = functions.len();
    for section in object.sections().filter(|section| section.kind() == SectionKind::Text) {
        let code = section.data()?;
        // Calls into another section, and any mention of a symbol.
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(index) = relocation.target() else { continue };
            let symbol = object.symbol_by_index(index)?;
            let target = match (symbol.kind(), symbol.section_index()) {
                // A call relocated against a section says in its immediate where in it, in instructions, less one.
                (SymbolKind::Section, Some(target)) => instruction(code, offset)
                    .and_then(|found| function_at(&functions, target, found.target_in_section()))
                    .map_or("", |function| function.name.as_str()),
                _ => symbol.name().unwrap_or_default(),
            };
            if may_panic(target) {
                findings.faults.push(format!("{} refers to {target}", place(&functions, &section, offset)));
            }
        }
        // Calls within the section need no relocation.
        let mut offset = 0;
        while let Some(found) = instruction(code, offset) {
            if found.opcode == CALL && found.source == LOCAL_CALL {
                findings.calls += 1;
                let relocated = section.relocations().any(|(at, _)| at == offset);
                let target = offset.checked_add_signed((i64::from(found.immediate) + 1) * INSTRUCTION as i64);
                let function = target.and_then(|target| function_at(&functions, section.index(), target));
                if let Some(function) = function.filter(|function| !relocated && may_panic(&function.name)) {
                    findings.faults.push(format!("{} calls {}", place(&functions, &section, offset), function.name));
                }
            }
            let words = if found.opcode == LOAD_WIDE { 2 } else { 1 };
            offset += words * INSTRUCTION as u64;
        }
    }
    Ok(findings)
}

fn may_panic(name: &str) -> bool {
    name.contains("panic") || name.contains(HANDLER)
}

/// What matters of an instruction.
struct Instruction {
    opcode: u8,
    source: u8,
    immediate: i32,
}

impl Instruction {
    fn target_in_section(&self) -> u64 {
        u64::try_from((i64::from(self.immediate) + 1) * INSTRUCTION as i64).unwrap_or(u64::MAX)
    }
}

fn instruction(code: &[u8], offset: u64) -> Option<Instruction> {
    let start = usize::try_from(offset).ok()?;
    let bytes = code.get(start..start.checked_add(INSTRUCTION)?)?;
    let &[opcode, registers, _, _, a, b, c, d] = bytes else { return None };
    let big = cfg!(target_endian = "big");
    let (source, immediate) = if big {
        (registers & 0x0f, i32::from_be_bytes([a, b, c, d]))
    } else {
        (registers >> 4, i32::from_le_bytes([a, b, c, d]))
    };
    Some(Instruction { opcode, source, immediate })
}

fn function_at(functions: &[Function], section: SectionIndex, address: u64) -> Option<&Function> {
    functions.iter().find(|function| function.section == section && (function.start..function.end).contains(&address))
}

fn place(functions: &[Function], section: &object::Section<'_, '_>, offset: u64) -> String {
    match function_at(functions, section.index(), offset) {
        Some(function) => format!("{} + {}", function.name, offset - function.start),
        None => format!("section {} + {offset}", section.name().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use object::{
        Architecture, BinaryFormat, Endianness, RelocationFlags, SymbolFlags, SymbolScope,
        elf::R_BPF_64_32,
        write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection},
    };

    use super::*;

    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    fn call(immediate: i32) -> [u8; 8] {
        let [a, b, c, d] = immediate.to_le_bytes();
        [CALL, LOCAL_CALL << 4, 0, 0, a, b, c, d]
    }

    fn function(object: &mut Object<'_>, section: SectionId, name: &str, code: &[[u8; 8]]) -> SymbolId {
        let value = object.append_section_data(section, &code.concat(), 8);
        object.add_symbol(Symbol {
            name: name.into(),
            value,
            size: (code.len() * INSTRUCTION) as u64,
            kind: SymbolKind::Text,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        })
    }

    /// A program in a section of its own, and two functions in `.text`: one that is harmless, and the handler.
    fn object(text: &[[u8; 8]], program: &[[u8; 8]], relocated_to_text: bool) -> Vec<u8> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        let text_section = object.add_section(vec![], b".text".to_vec(), SectionKind::Text);
        function(&mut object, text_section, "harmless", text);
        function(&mut object, text_section, "_RNvCs_7___rustc17rust_begin_unwind", &[EXIT]);
        let section = object.add_section(vec![], b"xdp".to_vec(), SectionKind::Text);
        function(&mut object, section, "ingress", program);
        if relocated_to_text {
            let symbol = object.section_symbol(text_section);
            let flags = RelocationFlags::Elf { r_type: R_BPF_64_32 };
            let relocation = Relocation { offset: 0, symbol, addend: 0, flags };
            object.add_relocation(section, relocation).expect("a relocation that ELF knows");
        }
        object.write().expect("an object that can be written")
    }

    #[cfg(target_endian = "little")]
    fn faults(object: &[u8]) -> Vec<String> {
        check_bytes(object).expect("an object").faults
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_handler_that_nobody_calls_is_fine() {
        assert!(faults(&object(&[EXIT], &[EXIT], false)).is_empty());
        // To `harmless`, through the section.
        assert!(faults(&object(&[EXIT], &[call(-1), EXIT], true)).is_empty());
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_call_of_the_handler_is_found_within_and_across_sections() {
        let within = object(&[call(1), EXIT], &[EXIT], false);
        assert_eq!(faults(&within), ["harmless + 0 calls _RNvCs_7___rustc17rust_begin_unwind"]);
        let across = object(&[EXIT], &[call(0), EXIT], true);
        assert_eq!(faults(&across), ["ingress + 0 refers to _RNvCs_7___rustc17rust_begin_unwind"]);
    }

    #[test]
    fn a_panicking_function_of_core_is_a_fault_by_being_there() {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        let text = object.add_section(vec![], b".text".to_vec(), SectionKind::Text);
        function(&mut object, text, "_ZN4core9panicking18panic_bounds_check17h0E", &[EXIT]);
        let bytes = object.write().expect("an object that can be written");
        let findings = check_bytes(&bytes).expect("an object");
        assert_eq!(findings.faults, ["it contains the symbol _ZN4core9panicking18panic_bounds_check17h0E"]);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert!(check_bytes(b"not an object").is_err());
    }
}
