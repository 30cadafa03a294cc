// Search for thresholds in one row of scores, by one workgroup, with no sort: a pass counts or sums what lies at or above
// four pivots and narrows to a fifth of the range. The row's ids go by fours ("quads"): quad q belongs to lane q % LANES,
// which keeps a list of those of its quads that can still matter, so that passes get shorter. Sums go in the order of
// row_reduce.wgsl, quads in rising order within a lane.
// Scores that differ by less than about 1e-10 temperatures count as ties.
// The shader declares `lists: array<u32>`, [logit row][QUADS], and `score(at: u32) -> f32`, the score at [logit row][VOCAB].
#include "lib/row_reduce.wgsl"

// Scores this far below the largest, in units of T, have exp(z) = 0 in f32.
const RANGE = 104.0f;
// The range in 5^16 parts.
const MAX_PASSES = 16u;

struct Row {
  // Logit row.
  i: u32,
  largest: f32,
  temperature: f32,
}

// This lane's quads: the first `list_length` of its list, or lane, lane + LANES, ... while it has none.
var<private> has_list: bool = false;
var<private> list_length: u32;

// Gives each lane all of its quads.
fn start_row(lane: u32) {
  list_length = (QUADS + LANES - 1u - lane) / LANES;
}

fn list_at(i: u32, lane: u32, k: u32) -> u32 {
  return i * QUADS + lane + k * LANES;
}

fn quad_at(i: u32, lane: u32, k: u32) -> u32 {
  if (has_list) {
    return lists[list_at(i, lane, k)];
  }
  return lane + k * LANES;
}

fn quad_scores(i: u32, quad: u32) -> vec4<f32> {
  let at = i * VOCAB + 4u * quad;
  #if VOCAB % 4 == 0
  return vec4<f32>(score(at), score(at + 1u), score(at + 2u), score(at + 3u));
  #else
  var x = vec4<f32>(LOWEST);
  #for j in 0..4
  if (4u * quad + ${j}u < VOCAB) {
    x[${j}] = score(at + ${j}u);
  }
  #endfor
  return x;
  #endif
}

fn largest(i: u32, lane: u32) -> Best {
  var best = Best(LOWEST, 0u);
  for (var quad = lane; quad < QUADS; quad += LANES) {
    let x = quad_scores(i, quad);
    #for j in 0..4
    if (x[${j}] > best.value) {
      best = Best(x[${j}], 4u * quad + ${j}u);
    }
    #endfor
  }
  return row_best(lane, best);
}

fn scaled(x: vec4<f32>, row: Row) -> vec4<f32> {
  return max(x - row.largest, vec4<f32>(-RANGE * row.temperature)) / row.temperature;
}

// Keeps the quads with a score at or above `floor` on the lane's list.
fn keep(row: Row, lane: u32, floor: f32) {
  var kept = 0u;
  for (var k = 0u; k < list_length; k++) {
    let quad = quad_at(row.i, lane, k);
    if (any(quad_scores(row.i, quad) >= vec4<f32>(floor))) {
      lists[list_at(row.i, lane, kept)] = quad;
      kept++;
    }
  }
  list_length = kept;
  has_list = true;
}

struct Tails {
  // How many (exact in f32 below 2^24).
  count: vec4<f32>,
  // The sum of exp(z) when it was asked for, else the count.
  amount: vec4<f32>,
}

// What lies at or above each of four pivots.
fn tails(row: Row, lane: u32, pivots: vec4<f32>, weighs: bool) -> Tails {
  var count = vec4<f32>(0.0);
  var mass = vec4<f32>(0.0);
  // Two loops: software adapters execute both sides of every branch in a loop, and exp costs more than all else here.
  if (weighs) {
    for (var k = 0u; k < list_length; k++) {
      let x = quad_scores(row.i, quad_at(row.i, lane, k));
      let weight = exp(scaled(x, row));
      #for j in 0..4
      let inside${j} = select(vec4<f32>(0.0), vec4<f32>(1.0), vec4<f32>(x[${j}]) >= pivots);
      count += inside${j};
      mass += inside${j} * weight[${j}];
      #endfor
    }
    return Tails(row_sum(lane, count), row_sum(lane, mass));
  }
  for (var k = 0u; k < list_length; k++) {
    let x = quad_scores(row.i, quad_at(row.i, lane, k));
    #for j in 0..4
    count += select(vec4<f32>(0.0), vec4<f32>(1.0), vec4<f32>(x[${j}]) >= pivots);
    #endfor
  }
  let total = row_sum(lane, count);
  return Tails(total, total);
}

// The largest t with enough at or above it: `goal` scores, or, when `weighs`, the part `goal` of the mass at or above `floor`;
// t = floor when all of that is not enough. Drops the quads below t.
fn threshold(row: Row, lane: u32, floor: f32, goal: f32, weighs: bool) -> f32 {
  var low = floor;
  var high = row.largest + max(abs(row.largest), row.temperature) * 1.0e-6;
  // Most of the mass lies close to the largest score: the first pivots look there.
  var pivots = max(vec4<f32>(low), row.largest - row.temperature * vec4<f32>(RANGE, 16.0, 8.0, 4.0));
  var tail = tails(row, lane, pivots, weighs);
  let wanted = select(goal, goal * tail.amount.x, weighs);
  if (tail.amount.x < wanted) {
    return floor;
  }
  var count_low = tail.count.x;
  var count_high = 0.0;
  for (var pass_number = 0u; pass_number < MAX_PASSES; pass_number++) {
    #for j in 0..4
    if (tail.amount[${j}] >= wanted) {
      low = pivots[${j}];
      count_low = tail.count[${j}];
    }
    #endfor
    #for j in 0..4
    if (tail.amount[${3 - j}] < wanted) {
      high = pivots[${3 - j}];
      count_high = tail.count[${3 - j}];
    }
    #endfor
    keep(row, lane, low);
    let is_exact = !weighs && count_low == wanted;
    if (is_exact || count_low - count_high <= 1.0) {
      break;
    }
    pivots = low + (high - low) * vec4<f32>(0.2, 0.4, 0.6, 0.8);
    // Neighbouring numbers have nothing between them: what is left are ties.
    if (pivots.y <= low || pivots.z >= high) {
      break;
    }
    tail = tails(row, lane, pivots, weighs);
  }
  return low;
}
