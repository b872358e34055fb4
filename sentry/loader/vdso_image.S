/* The image that sentry/loader/vdso makes, page aligned. */
  .section .rodata
  .balign 4096
  .globl runsc_vdso_image
  .hidden runsc_vdso_image
runsc_vdso_image:
  .incbin VDSO_IMAGE
  .globl runsc_vdso_image_end
  .hidden runsc_vdso_image_end
runsc_vdso_image_end:
  .section .note.GNU-stack, "", @progbits
