/* Programs ask for the kernel's version here (linux/elfnote.h): 6.1.0. */
  .section .note.Linux, "a", @note
  .balign 4
  .long 6, 4, 0
  .asciz "Linux"
  .balign 4
  .long 0x060100
  .section .note.GNU-stack, "", @progbits
