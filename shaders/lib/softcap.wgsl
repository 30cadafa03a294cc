// Bounded scores: CAP * tanh(score / CAP) where CAP > 0 (Gemma 2), else the score itself.
// tanh(x) = 1 - 2 / (exp(2x) + 1), with x kept where exp is finite and tanh is 1 in f32 anyway.
fn softcap(score: f32) -> f32 {
#if HAS_CAP
  let x = clamp(score / f32(CAP), -20.0, 20.0);
  return f32(CAP) * (1.0 - 2.0 / (exp(2.0 * x) + 1.0));
#else
  return score;
#endif
}
