// How fast each tier of an NVIDIA GPU streams: shared memory, L2, HBM (read, copy), PCIe.
// nvcc -O3 -arch=native benchmarks/tier_bandwidth.cu -o tier_bandwidth && ./tier_bandwidth
// Bytes are counted once per load (a copy counts its read and its write); best of 10 runs; GB = 10^9.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <cuda_runtime.h>

#define CHECK(call)                                                                       \
    do {                                                                                  \
        cudaError_t error = (call);                                                       \
        if (error != cudaSuccess) {                                                       \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error));                \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

constexpr int THREADS = 1024, SHARED_BYTES = 32 * 1024, SHARED_ROUNDS = 4096;

// Every warp reads 512 consecutive bytes per load: no bank conflicts.
__global__ void read_shared(uint32_t *sink) {
    extern __shared__ uint4 tile[];
    for (int i = threadIdx.x; i < SHARED_BYTES / 16; i += THREADS) tile[i] = make_uint4(i, i, i, i);
    __syncthreads();
    uint32_t base = static_cast<uint32_t>(__cvta_generic_to_shared(tile)) + threadIdx.x * 16, sum = 0;
    for (int round = 0; round < SHARED_ROUNDS; ++round) {
#pragma unroll
        for (int part = 0; part < SHARED_BYTES / 16 / THREADS; ++part) {
            uint4 v;
            asm volatile("ld.volatile.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                         : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                         : "r"(base + part * THREADS * 16));
            sum ^= v.x ^ v.y ^ v.z ^ v.w;
        }
    }
    if (sum == 0x9e3779b9u) *sink = sum;
}

// Bypasses L1, so a buffer that fits is served by L2 and one that does not by HBM.
__global__ void read_global(const uint4 *data, size_t count, int rounds, uint32_t *sink) {
    uint32_t sum = 0;
    const size_t step = static_cast<size_t>(gridDim.x) * THREADS;
    for (int round = 0; round < rounds; ++round)
#pragma unroll 8
        for (size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x; i < count; i += step) {
            uint4 v = __ldcg(data + i);
            sum ^= v.x ^ v.y ^ v.z ^ v.w;
        }
    if (sum == 0x9e3779b9u) *sink = sum;
}

static void report(const char *what, double bytes, const std::function<void()> &run) {
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    float best = 1e30f;
    for (int i = 0; i < 12; ++i) {
        CHECK(cudaEventRecord(start));
        run();
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        CHECK(cudaGetLastError());
        float ms;
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        if (i >= 2) best = std::min(best, ms);
    }
    printf("%-28s %9.1f GB/s  (%.0f bytes in %.4f ms)\n", what, bytes / best / 1e6, bytes, best);
}

int main() {
    cudaDeviceProp device;
    CHECK(cudaGetDeviceProperties(&device, 0));
    printf("%s, %d SMs, L2 %d bytes\n", device.name, device.multiProcessorCount, device.l2CacheSize);
    uint32_t *sink;
    CHECK(cudaMalloc(&sink, 4));
    const int blocks = device.multiProcessorCount * 2;
    report("shared memory, read", double(blocks) * SHARED_BYTES * SHARED_ROUNDS, [&] {
        read_shared<<<blocks, THREADS, SHARED_BYTES>>>(sink);
    });
    const size_t big = size_t(16) << 30;
    uint4 *data, *copy;
    CHECK(cudaMalloc(&data, big));
    CHECK(cudaMalloc(&copy, big));
    CHECK(cudaMemset(data, 1, big));
    for (size_t mib : {4, 8, 16, 24, 32}) {
        char what[40];
        snprintf(what, sizeof what, "L2, read %zu MiB", mib);
        report(what, double(mib << 20) * 200, [&] { read_global<<<blocks, THREADS>>>(data, (mib << 20) / 16, 200, sink); });
    }
    report("HBM, read 16 GiB", double(big), [&] { read_global<<<blocks, THREADS>>>(data, big / 16, 1, sink); });
    report("HBM, copy 16 GiB", 2.0 * big, [&] { CHECK(cudaMemcpyAsync(copy, data, big, cudaMemcpyDeviceToDevice)); });
    const size_t host_bytes = size_t(2) << 30;
    void *host;
    CHECK(cudaMallocHost(&host, host_bytes));
    report("host to device, pinned", double(host_bytes), [&] { CHECK(cudaMemcpyAsync(data, host, host_bytes, cudaMemcpyHostToDevice)); });
    report("device to host, pinned", double(host_bytes), [&] { CHECK(cudaMemcpyAsync(host, data, host_bytes, cudaMemcpyDeviceToHost)); });
}
