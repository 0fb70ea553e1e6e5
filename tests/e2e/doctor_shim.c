// Preloaded by test_doctor.py: what adjtimex(2) says of the clock, as KEYTRAIL_SHIM_CLOCK wants it: "good",
// "unsynchronised", "coarse" (kept right, but up to 0.4 s wrong). Nobody can plant the kernel's own state in a
// container, and the machine that runs the tests may have either.
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>

int adjtimex(struct timex* t) {
  const char* wanted = getenv("KEYTRAIL_SHIM_CLOCK");
  const int bad = wanted != NULL && strcmp(wanted, "unsynchronised") == 0;
  const int coarse = wanted != NULL && strcmp(wanted, "coarse") == 0;
  memset(t, 0, sizeof *t);
  t->status = bad ? STA_UNSYNC : STA_PLL;
  t->maxerror = bad ? 16000000 : coarse ? 400000 : 1500;
  return bad ? TIME_ERROR : TIME_OK;
}
