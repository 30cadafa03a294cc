// Drafts by prompt lookup (vLLM's method "ngram"; Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding): what followed
// the last tokens of a slot's history where they stood before. With h = the history, of L tokens:
//   m = the largest length in MIN_LOOKUP..MAX_LOOKUP for which an e < L exists with h[e - m .. e) = h[L - m .. L); of these the largest e
//   draft d = h[e + (d - 1) mod (L - e)], d = 1, 2, ...: past the end of the history it repeats itself
// Row r + d of the step becomes (slot, position of row r + d, draft d, 1) for as many rows of drafts as follow row r. No match: they
// stay inactive, as begin.wgsl left them; so do rows at or after the slot's last token, whose samples nobody needs.
// types: u32, atomics (maxima: their order does not matter). features: none. constants: tables.ts; MIN_LOOKUP, MAX_LOOKUP, LANES.
// One workgroup a row; those whose row has no drafts after it end at once. Comes after begin.wgsl.
#include "lib/tables.wgsl"

@group(0) @binding(0) var<storage, read> step_words: array<u32>;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
@group(0) @binding(2) var<storage, read> history: array<u32>;
@group(0) @binding(3) var<storage, read_write> rows: array<vec4<u32>>;

var<workgroup> longest: atomic<u32>;
var<workgroup> latest: atomic<u32>;
/// The row that the drafts follow, and how many follow it; 0 = none. Through workgroup memory, so that control flow is uniform.
var<workgroup> source: vec4<u32>;
var<workgroup> wanted: u32;

// Tokens before `end` that equal those before `length`, at most MAX_LOOKUP.
fn match_length(base: u32, end: u32, length: u32) -> u32 {
  var m = 0u;
  while (m < min(MAX_LOOKUP, end) && history[base + end - 1u - m] == history[base + length - 1u - m]) {
    m++;
  }
  return m;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let r = group.x;
  if (lane == 0u) {
    wanted = 0u;
    atomicStore(&longest, 0u);
    atomicStore(&latest, 0u);
    let end = step_words[STEP_NUM_ROWS];
    while (r + wanted + 1u < end && draft_number(r) == 0u && draft_number(r + wanted + 1u) == wanted + 1u) {
      wanted++;
    }
    // Rows of drafts are another workgroup's to write.
    if (wanted > 0u) {
      source = rows[r];
      wanted = select(0u, wanted, source.w != 0u);
    }
  }
  let count = workgroupUniformLoad(&wanted);
  if (count == 0u) {
    return;
  }
  let row = workgroupUniformLoad(&source);
  let base = row.x * MAX_LEN;
  let length = row.y + 1u;
  var own_longest = 0u;
  var own_latest = 0u;
  for (var end = 1u + lane; end < length; end += LANES) {
    let m = match_length(base, end, length);
    if (m >= max(own_longest, MIN_LOOKUP)) {
      own_longest = m;
      own_latest = end;
    }
  }
  atomicMax(&longest, own_longest);
  workgroupBarrier();
  if (own_longest > 0u && own_longest == atomicLoad(&longest)) {
    atomicMax(&latest, own_latest);
  }
  workgroupBarrier();
  if (lane > 0u || atomicLoad(&longest) == 0u) {
    return;
  }
  let start = atomicLoad(&latest);
  let last = min(slots[row.x * SLOT_STRIDE + SLOT_MAX_LENGTH], MAX_LEN) - 1u;
  for (var d = 1u; d <= count && row.y + d < last; d++) {
    rows[r + d] = vec4<u32>(row.x, row.y + d, history[base + start + (d - 1u) % (length - start)], 1u);
  }
}
