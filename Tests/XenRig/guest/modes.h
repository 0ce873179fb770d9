// modes.h: what the parts of the guest program `modes` share.
#pragma once
#include "screen.h"

enum { TEXT = 0xb8000, MONO = 0xb0000, WINDOW = 0xa0000 };
enum { RAM = 0x30000 };                             // 128 KiB from here on hold what is then moved to the window

void equal(const char *what, u32 got, u32 wanted);  // says `ok - what` or `not ok - what: …`

// The steps in text modes (modes-text.c), and what leaves the screen in text mode: no blink, no cursor.
void text_steps(void);
void text_mode(u32 mode);
void text_picture(u32 base, u32 columns, u32 rows, const char *label);
