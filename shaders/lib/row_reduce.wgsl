// Reductions over the LANES threads of a workgroup that works on one row. Each lane brings the sum, or the best, of its own
// part of the row; lanes are combined by halving (l with l + LANES / 2, then with l + LANES / 4, ...). The order depends
// on LANES alone: never on the bucket, the row's place or other rows.
// Results are the same in every lane, and uniform for the compiler, so that barriers may depend on them.

struct Best {
  value: f32,
  id: u32,
}

var<workgroup> lane_sums: array<vec4<f32>, LANES>;
var<workgroup> lane_bests: array<Best, LANES>;

fn row_sum(lane: u32, own: vec4<f32>) -> vec4<f32> {
  lane_sums[lane] = own;
  for (var half = u32(LANES / 2); half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      lane_sums[lane] += lane_sums[lane + half];
    }
  }
  return workgroupUniformLoad(&lane_sums[0]);
}

// Largest value; of equal ones that with the lowest id.
fn row_best(lane: u32, own: Best) -> Best {
  lane_bests[lane] = own;
  for (var half = u32(LANES / 2); half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      let a = lane_bests[lane];
      let b = lane_bests[lane + half];
      if (b.value > a.value || (b.value == a.value && b.id < a.id)) {
        lane_bests[lane] = b;
      }
    }
  }
  return workgroupUniformLoad(&lane_bests[0]);
}
