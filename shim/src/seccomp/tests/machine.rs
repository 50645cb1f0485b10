//! The kernel's machine for seccomp programs, as far as our compiler uses it.

use super::super::assemble::{AND, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL, LOAD_WORD, RETURN};
use crate::sys::seccomp::Instruction;

/// `seccomp_data`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) audit: u32,
    pub(super) args: [u64; 6],
}

/// What the program answers.
pub(super) fn run(program: &[Instruction], call: &Call) -> u32 {
    trace(program, call).0
}

/// How many instructions that takes.
pub(super) fn steps(program: &[Instruction], call: &Call) -> usize {
    trace(program, call).1
}

fn trace(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0, 0_u32, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        steps += 1;
        let jump = |holds| usize::from(if holds { jt } else { jf });
        match code {
            LOAD_WORD => accumulator = word(call, k),
            AND => accumulator &= k,
            JUMP => at += usize::try_from(k).unwrap(),
            JUMP_EQUAL => at += jump(accumulator == k),
            JUMP_GREATER => at += jump(accumulator > k),
            JUMP_GREATER_OR_EQUAL => at += jump(accumulator >= k),
            RETURN => return (k, steps),
            other => panic!("no such instruction: {other:#x}"),
        }
    }
}

fn word(call: &Call, offset: u32) -> u32 {
    match offset {
        0 => call.number,
        4 => call.audit,
        16..64 if offset.is_multiple_of(4) => {
            let argument = call.args[usize::try_from((offset - 16) / 8).unwrap()];
            u32::try_from(if offset.is_multiple_of(8) {
                argument & 0xFFFF_FFFF
            } else {
                argument >> 32
            })
            .unwrap()
        }
        other => panic!("load from {other}"),
    }
}

/// What the kernel checks before it takes a program: every jump stays inside, and it ends with a return.
pub(super) fn check(program: &[Instruction]) {
    assert!(program.len() <= 4096);
    assert_eq!(program.last().unwrap().code, RETURN);
    for (at, instruction) in program.iter().enumerate() {
        let furthest = match instruction.code {
            JUMP => usize::try_from(instruction.k).unwrap(),
            _ => usize::from(instruction.jt.max(instruction.jf)),
        };
        assert!(
            at + 1 + furthest < program.len() || furthest == 0,
            "jump out of the program at {at}"
        );
    }
}
