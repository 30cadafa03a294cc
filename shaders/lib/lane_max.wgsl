// Largest of the LANES lanes of a workgroup (LANES a power of two), the same in every lane. Every lane of the workgroup must call.
var<workgroup> lane_tops: array<f32, LANES>;

fn lane_max(lane: u32, value: f32) -> f32 {
  lane_tops[lane] = value;
  for (var half = LANES / 2u; half > 0; half /= 2) {
    workgroupBarrier();
    if (lane < half) {
      lane_tops[lane] = max(lane_tops[lane], lane_tops[lane + half]);
    }
  }
  return workgroupUniformLoad(&lane_tops[0]);
}
