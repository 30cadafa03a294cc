// Which experts compute a row: p = softmax(logits[r]); chosen[r][j] = the expert of the j-th largest p and its p, or p divided by the
// sum of the chosen ones where NORMALIZED. Equal ones: the lower id first. Shazeer et al. 2017, https://arxiv.org/abs/1701.06538
// Layout:    logits [rows][EXPERTS] f32; chosen [rows][PER_TOKEN] (expert u32, weight f32 as bits).
// Sums:      f32, experts ascending for the softmax, chosen ones in their order for the norm. One thread a row.
// Constants: EXPERTS, PER_TOKEN, NORMALIZED, COUNT_WORD, WORKGROUP. Features: none.
// Bindings:  0 step [COUNT_WORD] = rows in use; 1 logits; 2 chosen.

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> chosen: array<vec2<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.x;
  if (row >= step[COUNT_WORD]) {
    return;
  }
  let base = row * EXPERTS;
  var largest = logits[base];
  for (var e = 1u; e < EXPERTS; e++) {
    largest = max(largest, logits[base + e]);
  }
  var sum = 0.0;
  for (var e = 0u; e < EXPERTS; e++) {
    sum += exp(logits[base + e] - largest);
  }
  var last = largest;
  var last_expert = 0u;
  var chosen_sum = 0.0;
  for (var j = 0u; j < PER_TOKEN; j++) {
    // The best of those that come after the last chosen one: lower, or equal with a higher id.
    var best = -3.4e38;
    var best_expert = u32(EXPERTS);
    for (var e = 0u; e < EXPERTS; e++) {
      let logit = logits[base + e];
      let after = j == 0 || logit < last || (logit == last && e > last_expert);
      if (after && (best_expert == EXPERTS || logit > best)) {
        best = logit;
        best_expert = e;
      }
    }
    last = best;
    last_expert = best_expert;
    let probability = exp(best - largest) / sum;
    chosen_sum += probability;
    chosen[row * PER_TOKEN + j] = vec2(best_expert, bitcast<u32>(probability));
  }
#if NORMALIZED
  for (var j = 0u; j < PER_TOKEN; j++) {
    let at = row * PER_TOKEN + j;
    chosen[at].y = bitcast<u32>(bitcast<f32>(chosen[at].y) / chosen_sum);
  }
#endif
}
