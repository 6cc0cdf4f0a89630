/* layout.h: host arrays between the two orders of an image's dimensions: files and samplers have
 * NCHW, devices compute in NHWC. */
#ifndef SDW_TENSOR_LAYOUT_H
#define SDW_TENSOR_LAYOUT_H

/* to and from hold n*c*h*w numbers and do not overlap. */
void sdw_nhwc_from_nchw(float *to, const float *from, int n, int c, int h, int w);
void sdw_nchw_from_nhwc(float *to, const float *from, int n, int c, int h, int w);

#endif
