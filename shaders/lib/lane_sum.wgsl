// Sum over the first SUM_LANES lanes of a workgroup (a power of two), the same in every lane.
// Order: lane l with l + SUM_LANES / 2 first, then with l + SUM_LANES / 4, and so on. Every lane of the workgroup must call.
// (workgroupUniformLoad is a barrier before and after.)
var<workgroup> lane_values: array<f32, SUM_LANES>;

fn lane_sum(lane: u32, value: f32) -> f32 {
  if (lane < SUM_LANES) {
    lane_values[lane] = value;
  }
  for (var half = SUM_LANES / 2u; half > 0; half /= 2) {
    workgroupBarrier();
    if (lane < half) {
      lane_values[lane] += lane_values[lane + half];
    }
  }
  return workgroupUniformLoad(&lane_values[0]);
}
