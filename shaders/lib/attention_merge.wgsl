// How the sums of one tile of positions join those of the tiles before it (online softmax; Milakov and Gimelshein 2018,
// https://arxiv.org/abs/1805.02867). A tile's sums are relative to its own largest score, so that tiles can be summed apart and in any
// order; they are always joined ascending.

/// Positions of a tile, at absolute multiples.
const TILE = 64u;

/// What positions so far give: the largest score, the sum of weights, and the sum of weighted values of one pair of dimensions.
struct Attended {
  top: f32,
  weights: f32,
  sum: vec2<f32>,
}

fn joined(before: Attended, tile: Attended) -> Attended {
  let top = max(before.top, tile.top);
  let shrink = exp(before.top - top);
  let grow = exp(tile.top - top);
  return Attended(
    top,
    fma(tile.weights, grow, before.weights * shrink),
    fma(tile.sum, vec2(grow), before.sum * shrink),
  );
}
