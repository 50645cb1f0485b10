//! A profile as classic BPF: a search tree over ranges of call numbers for each ABI, so that a call that is simply
//! allowed, as nearly all are, costs about a dozen instructions however long the profile is.

use std::collections::BTreeMap;

use super::profile::ProfileError;
use super::profile::{Comparison, Condition, Profile, Verdict};
use super::syscalls::{Abi, X32_BIT};
use crate::sys::seccomp::Instruction;

/// linux/bpf_common.h.
pub(super) const LOAD_WORD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

/// Offsets in `seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// linux/bpf_common.h.
const MAX_INSTRUCTIONS: usize = 4096;
const NOT_IMPLEMENTED: u32 = libc::SECCOMP_RET_ERRNO | 38;

/// From a number on, what happens, up to the next one.
type Range<'a> = (u32, &'a Verdict);

/// The program of a profile.
///
/// # Errors
/// [`ProfileError::TooLong`].
pub(super) fn compile(profile: &Profile) -> Result<Vec<Instruction>, ProfileError> {
    let mut blocks: Vec<(u32, Vec<Instruction>)> = Vec::new();
    for (abi, verdicts) in &profile.abis {
        // Lives in the block of the native ABI.
        if *abi == Abi::X32 {
            continue;
        }
        let x32 = profile
            .abis
            .iter()
            .find(|(other, _)| *abi == Abi::X86_64 && *other == Abi::X32);
        blocks.push((
            abi.audit(),
            block(*abi, verdicts, x32.map(|(_, verdicts)| verdicts), profile.default),
        ));
    }
    let mut program = vec![load(ARCHITECTURE)];
    let mut skip = blocks.len() * 2 + 1;
    for (index, (audit, block)) in blocks.iter().enumerate() {
        // Blocks are longer than a conditional jump can reach.
        program.push(Instruction {
            code: JUMP_EQUAL,
            jt: 0,
            jf: 1,
            k: *audit,
        });
        program.push(jump(skip - 2 * (index + 1)));
        skip += block.len();
    }
    // An architecture that the profile does not name has no business here, as with other runtimes.
    program.push(ret(libc::SECCOMP_RET_KILL_PROCESS));
    program.extend(blocks.into_iter().flat_map(|(_, block)| block));
    if program.len() > MAX_INSTRUCTIONS {
        return Err(ProfileError::TooLong {
            instructions: program.len(),
        });
    }
    Ok(program)
}

fn block(
    abi: Abi,
    verdicts: &BTreeMap<u32, Verdict>,
    x32: Option<&BTreeMap<u32, Verdict>>,
    default: u32,
) -> Vec<Instruction> {
    let otherwise = Verdict {
        rules: Vec::new(),
        otherwise: Some(default),
    };
    // A call newer than every one that the profile's author knew fails as on a kernel without it, or C libraries would
    // take the refusal for an answer instead of falling back.
    let refuses = default & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO;
    let newer = if refuses {
        Verdict {
            rules: Vec::new(),
            otherwise: Some(NOT_IMPLEMENTED),
        }
    } else {
        otherwise.clone()
    };
    let absent = Verdict {
        rules: Vec::new(),
        otherwise: Some(NOT_IMPLEMENTED),
    };
    let mut ranges: Vec<Range<'_>> = Vec::new();
    fill(&mut ranges, 0, verdicts, &otherwise, &newer);
    if abi == Abi::X86_64 {
        match x32 {
            Some(verdicts) => fill(&mut ranges, X32_BIT, verdicts, &otherwise, &newer),
            None => push(&mut ranges, X32_BIT, &absent),
        }
    }
    let emit = Emit {
        default,
        narrow: abi.is_narrow(),
    };
    let mut block = vec![load(NUMBER)];
    block.extend(emit.tree(&ranges));
    block
}

/// The ranges of one ABI from `base` on.
fn fill<'a>(
    ranges: &mut Vec<Range<'a>>,
    base: u32,
    verdicts: &'a BTreeMap<u32, Verdict>,
    otherwise: &'a Verdict,
    newer: &'a Verdict,
) {
    let mut next = base;
    for (&number, verdict) in verdicts {
        if number > next {
            push(ranges, next, otherwise);
        }
        push(ranges, number, verdict);
        next = number + 1;
    }
    push(ranges, next, if verdicts.is_empty() { otherwise } else { newer });
}

/// Neighbours with the same verdict are one range.
fn push<'a>(ranges: &mut Vec<Range<'a>>, from: u32, verdict: &'a Verdict) {
    if ranges.last().is_none_or(|(_, last)| *last != verdict) {
        ranges.push((from, verdict));
    }
}

struct Emit {
    default: u32,
    narrow: bool,
}

impl Emit {
    fn tree(&self, ranges: &[Range<'_>]) -> Vec<Instruction> {
        let (left, right) = match ranges {
            [] => return vec![ret(self.default)],
            [(_, verdict)] => return self.leaf(verdict),
            more => more.split_at(more.len() / 2),
        };
        let boundary = right.first().map_or(0, |(from, _)| *from);
        let (left, right) = (self.tree(left), self.tree(right));
        let mut program = Vec::with_capacity(left.len() + right.len() + 2);
        match u8::try_from(left.len()) {
            Ok(skip) => program.push(Instruction {
                code: JUMP_GREATER_OR_EQUAL,
                jt: skip,
                jf: 0,
                k: boundary,
            }),
            Err(_) => {
                program.push(Instruction {
                    code: JUMP_GREATER_OR_EQUAL,
                    jt: 0,
                    jf: 1,
                    k: boundary,
                });
                program.push(jump(left.len()));
            }
        }
        program.extend(left);
        program.extend(right);
        program
    }

    fn leaf(&self, verdict: &Verdict) -> Vec<Instruction> {
        let mut program = Vec::new();
        for (conditions, returned) in &verdict.rules {
            let mut tests = Vec::new();
            for condition in conditions {
                let start = tests.len();
                tests.extend(self.test(condition));
                let end = tests.len();
                resolve(&mut tests, start, end);
            }
            // Failing leads past the return.
            let end = tests.len() + 1;
            program.extend(tests.into_iter().enumerate().map(|(at, test)| test.finish(at, end)));
            program.push(ret(*returned));
        }
        program.push(ret(verdict.otherwise.unwrap_or(self.default)));
        program
    }

    /// The instructions that decide one condition: falling through or [`To::Pass`] when it holds.
    fn test(&self, condition: &Condition) -> Vec<Test> {
        let offset = ARGUMENTS + 8 * condition.argument;
        let (high_at, low_at) = (offset + 4, offset);
        let (high, low) = halves(condition.value);
        let (masked_high, masked_low) = halves(condition.masked);
        let word = |at: u32, tests: Vec<Test>| std::iter::once(Test::plain(load(at))).chain(tests).collect::<Vec<_>>();
        let (upper, lower) = match condition.comparison {
            Comparison::Equal => (
                vec![Test::on(JUMP_EQUAL, high, To::Next, To::Fail)],
                vec![Test::on(JUMP_EQUAL, low, To::Next, To::Fail)],
            ),
            Comparison::NotEqual => (
                vec![Test::on(JUMP_EQUAL, high, To::Next, To::Pass)],
                vec![Test::on(JUMP_EQUAL, low, To::Fail, To::Next)],
            ),
            Comparison::MaskedEqual => {
                let and = |k| {
                    Test::plain(Instruction {
                        code: AND,
                        jt: 0,
                        jf: 0,
                        k,
                    })
                };
                let equal = |k| Test::on(JUMP_EQUAL, k, To::Next, To::Fail);
                (vec![and(high), equal(masked_high)], vec![and(low), equal(masked_low)])
            }
            Comparison::Greater => (above(high), vec![Test::on(JUMP_GREATER, low, To::Next, To::Fail)]),
            Comparison::GreaterOrEqual => (
                above(high),
                vec![Test::on(JUMP_GREATER_OR_EQUAL, low, To::Next, To::Fail)],
            ),
            Comparison::Less => (
                below(high),
                vec![Test::on(JUMP_GREATER_OR_EQUAL, low, To::Fail, To::Next)],
            ),
            Comparison::LessOrEqual => (below(high), vec![Test::on(JUMP_GREATER, low, To::Fail, To::Next)]),
        };
        if self.narrow {
            return word(low_at, lower);
        }
        let mut tests = word(high_at, upper);
        tests.extend(word(low_at, lower));
        tests
    }
}

/// The upper halves decide unless they are equal.
fn above(high: u32) -> Vec<Test> {
    vec![
        Test::on(JUMP_GREATER, high, To::Pass, To::Next),
        Test::on(JUMP_EQUAL, high, To::Next, To::Fail),
    ]
}

fn below(high: u32) -> Vec<Test> {
    vec![
        Test::on(JUMP_GREATER, high, To::Fail, To::Next),
        Test::on(JUMP_EQUAL, high, To::Next, To::Pass),
    ]
}

/// Where a comparison leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// To the following instruction.
    Next,
    /// The condition holds: to its end.
    Pass,
    /// The rule does not apply.
    Fail,
    /// Known by now: skip this many.
    Skip(u8),
}

struct Test {
    instruction: Instruction,
    jumps: Option<(To, To)>,
}

impl Test {
    fn plain(instruction: Instruction) -> Self {
        Self {
            instruction,
            jumps: None,
        }
    }

    fn on(code: u16, k: u32, holds: To, fails: To) -> Self {
        Self {
            instruction: Instruction { code, jt: 0, jf: 0, k },
            jumps: Some((holds, fails)),
        }
    }

    fn finish(self, at: usize, end: usize) -> Instruction {
        let Some((holds, fails)) = self.jumps else {
            return self.instruction;
        };
        let skip = |to| match to {
            // `end` is at most 6 conditions of 6 instructions and the return.
            To::Fail => u8::try_from(end - at - 1).unwrap_or(u8::MAX),
            To::Skip(skip) => skip,
            To::Next | To::Pass => 0,
        };
        Instruction {
            jt: skip(holds),
            jf: skip(fails),
            ..self.instruction
        }
    }
}

/// Turns [`To::Pass`] of the condition at `start..end` into a distance.
fn resolve(tests: &mut [Test], start: usize, end: usize) {
    for (at, test) in tests.iter_mut().enumerate().skip(start) {
        let known = |to| {
            if to == To::Pass {
                To::Skip(u8::try_from(end - at - 1).unwrap_or(u8::MAX))
            } else {
                to
            }
        };
        test.jumps = test.jumps.map(|(holds, fails)| (known(holds), known(fails)));
    }
}

fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (u32::from_le_bytes([e, f, g, h]), u32::from_le_bytes([a, b, c, d]))
}

fn load(offset: u32) -> Instruction {
    Instruction {
        code: LOAD_WORD,
        jt: 0,
        jf: 0,
        k: offset,
    }
}

fn jump(skip: usize) -> Instruction {
    Instruction {
        code: JUMP,
        jt: 0,
        jf: 0,
        k: u32::try_from(skip).unwrap_or(u32::MAX),
    }
}

fn ret(value: u32) -> Instruction {
    Instruction {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: value,
    }
}
