__global__ void NAME(float *values) { values[threadIdx.x] *= 2.0f; }
