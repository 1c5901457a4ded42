// The building blocks of a generated update: products of small matrices, and elementary functions
// that a compiler can vectorise. Plain C++17 with the vector extensions of GCC and Clang.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

// Asserts that no iteration of the next loop reads what another one writes, despite its pointers.
#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace {

typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4)));

// One tile of C = A B, ROWS x `columns`, summed in registers.
template <int ROWS, int WIDTH, int K, int A_ROW, int A_COLUMN, int B_ROW, int C_ROW>
inline void multiply_tile(const float* a, const float* b, float* c, int columns) {
  Lanes sums[ROWS][WIDTH] = {};
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k) {
    Lanes row[WIDTH];
#pragma GCC unroll 8
    for (int v = 0; v < WIDTH; ++v) row[v] = *reinterpret_cast<const Lanes*>(b + k * B_ROW + v * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const float factor = a[r * A_ROW + k * A_COLUMN];
#pragma GCC unroll 8
      for (int v = 0; v < WIDTH; ++v) sums[r][v] += factor * row[v];
    }
  }
  if (columns == WIDTH * LANES) {
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < WIDTH; ++v) *reinterpret_cast<Lanes*>(c + r * C_ROW + v * LANES) = sums[r][v];
  } else {
    for (int r = 0; r < ROWS; ++r) std::memcpy(c + r * C_ROW, sums[r], columns * sizeof(float));
  }
}

// C (M x N) = A (M x K) B (K x N). Rows of B and C are contiguous, and those of B can be read up to
// the end of the last tile; A may have any strides. A tile is WIDTH vectors wide.
template <int WIDTH, int M, int N, int K, int A_ROW, int A_COLUMN, int B_ROW, int C_ROW>
inline void multiply(const float* a, const float* b, float* c) {
  constexpr int ROWS = std::min({M, (REGISTERS - WIDTH) / WIDTH, 14}), REST = M % ROWS;
  for (int j = 0; j < N; j += WIDTH * LANES) {
    const int columns = std::min(WIDTH * LANES, N - j);
    int i = 0;
    for (; i + ROWS <= M; i += ROWS)
      multiply_tile<ROWS, WIDTH, K, A_ROW, A_COLUMN, B_ROW, C_ROW>(a + i * A_ROW, b + j, c + i * C_ROW + j, columns);
    if constexpr (REST != 0)
      multiply_tile<REST, WIDTH, K, A_ROW, A_COLUMN, B_ROW, C_ROW>(a + i * A_ROW, b + j, c + i * C_ROW + j, columns);
  }
}

// All of these propagate NaN, as PyTorch does.
inline float square(float x) { return x * x; }
inline float clamp(float x, float low, float high) { return std::min(std::max(x, low), high); }
inline float larger(float x, float y) { return x < y || y != y ? y : x; }

// Multiplies x by 2^n, provided that the result is a normal number.
inline float shift(float x, std::int32_t n) {
  std::int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits += n << 23;
  std::memcpy(&x, &bits, sizeof bits);
  return x;
}

// exp(x) = 2^n exp(r) with |r| <= log(2) / 2, where a polynomial is exact up to rounding. 2^n is
// applied in two halves, so that large and small results become infinity and zero.
inline float fast_exp(float x) {
  const float bounded = clamp(x, -104.0f, 89.0f);
  const float n = __builtin_rintf(bounded * 1.44269504f);
  const float r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const std::int32_t whole = static_cast<std::int32_t>(n), half = whole >> 1;
  return shift(p, half) * shift(1.0f, whole - half);
}

// tanh(x) as x times a quotient of polynomials in x^2, within 3e-7 of the exact value.
inline float fast_tanh(float x) {
  const float y = clamp(x, -7.90531110763549805f, 7.90531110763549805f);
  const float s = y * y;
  float p = -2.76076847742355e-16f;
  p = p * s + 2.00018790482477e-13f;
  p = p * s - 8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  float q = 1.19825839466702e-06f;
  q = q * s + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return y * p / q;
}

}  // namespace
