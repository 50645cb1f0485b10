//! The rules as an eBPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE`: it is asked with a `bpf_cgroup_dev_ctx` of three
//! 32-bit words (access << 16 | kind, major, minor) and answers 1 for yes.
//!
//! An access may have several bits, and each is decided by the last rule that speaks of it. So the rules are walked
//! backwards with the bits that still need a yes: a deny that touches one of them ends with no, an allow takes its
//! bits away, and none left ends with yes.

use super::{Kind, Rule};
use crate::sys::bpf::Instruction;

/// Kinds as in the kernel's `BPF_DEVCG_DEV_*`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// Register numbers: the answer, the context, and what is taken out of it.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const NEED: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Operation codes of linux/bpf.h; arithmetic and comparisons on 32 bits.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_IF_NOT_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

const NO: i32 = 0;
const YES: i32 = 1;

/// Compiles; the rules are in the spec's order.
pub(super) fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        load(NEED, 0),
        load(MAJOR, 4),
        load(MINOR, 8),
        Instruction::new(MOVE_REGISTER, [KIND, NEED], 0, 0),
        constant(AND, KIND, 0xffff),
        constant(SHIFT_RIGHT, NEED, 16),
    ];
    for rule in rules.iter().rev() {
        program.extend(block(*rule));
    }
    program.extend(answer(NO));
    program
}

/// One rule: its conditions jump behind the block, or else its verdict comes.
fn block(rule: Rule) -> Vec<Instruction> {
    let access = i32::from(rule.access);
    let verdict = if rule.allow {
        let mut verdict = vec![constant(AND, NEED, !access), jump(JUMP_IF_NOT_EQUAL, NEED, 0, 2)];
        verdict.extend(answer(YES));
        verdict
    } else {
        let mut verdict = vec![
            Instruction::new(MOVE_REGISTER, [ANSWER, NEED], 0, 0),
            constant(AND, ANSWER, access),
            jump(JUMP_IF_EQUAL, ANSWER, 0, 2),
        ];
        verdict.extend(answer(NO));
        verdict
    };
    let kind = match rule.kind {
        Kind::All => None,
        Kind::Char => Some(CHAR),
        Kind::Block => Some(BLOCK),
    };
    let conditions = [
        (KIND, kind),
        (MAJOR, rule.major.map(u32::cast_signed)),
        (MINOR, rule.minor.map(u32::cast_signed)),
    ];
    let mut block = verdict;
    // From the last to the first, so that each knows how long what it jumps over has become. At most 7 instructions.
    for (register, wanted) in conditions.into_iter().rev() {
        if let Some(wanted) = wanted {
            let over = i16::try_from(block.len()).unwrap_or(i16::MAX);
            block.insert(0, jump(JUMP_IF_NOT_EQUAL, register, wanted, over));
        }
    }
    block
}

fn answer(answer: i32) -> [Instruction; 2] {
    [constant(MOVE, ANSWER, answer), Instruction::new(EXIT, [0, 0], 0, 0)]
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction::new(LOAD_WORD, [register, CONTEXT], offset, 0)
}

fn constant(code: u8, register: u8, value: i32) -> Instruction {
    Instruction::new(code, [register, 0], 0, value)
}

fn jump(code: u8, register: u8, value: i32, over: i16) -> Instruction {
    Instruction::new(code, [register, 0], over, value)
}
