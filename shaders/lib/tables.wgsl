// Helpers over the tables of src/engine/tables.ts, whose numbers arrive as constants of the same names.
// A shader that includes this file declares `step_words: array<u32>` (the step descriptor).

// Raw logits are clamped to +-LIMIT and masked ones become MASKED: far below any logit, yet differences of two scores
// stay finite, since WGSL lets compilers assume that there are no infinities and no NaN.
const LIMIT = 1.0e38f;
const MASKED = -2.0e38f;
// Bit of `counts`: the id is in the prompt. The other bits count how often it was generated.
const IN_PROMPT = 0x80000000u;
// Below every score: the start of a search for the largest.
const LOWEST = -3.4e38f;

// Which draft of its slot row r of the step is: 0 = none, it holds a known token. The drafts of a slot follow its last known token.
fn draft_number(r: u32) -> u32 {
  let number = POSITION_FROM_SLOT - step_words[STEP_ROWS + 2u * r + 1u];
  return select(0u, number, number <= MAX_DRAFTS);
}

fn num_logit_rows() -> u32 {
  return step_words[STEP_NUM_LOGIT_ROWS];
}

// Row in `rows` of logit row i.
fn logit_row(i: u32) -> u32 {
  return step_words[STEP_LOGITS + 2u * i];
}

// Whether logit row i is of that kind (LOGIT_SAMPLE, LOGIT_LOGPROBS, LOGIT_MASKED).
fn logit_row_is(i: u32, kind: u32) -> bool {
  return (step_words[STEP_LOGITS + 2u * i + 1u] & kind) != 0u;
}
