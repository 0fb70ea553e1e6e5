// What libraries leak at the end of `keytrail`, for the leak sanitizer's build of it.
#if defined(__SANITIZE_ADDRESS__)

extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  // libedit copies the name and the help of a function that is added (EL_ADDFN), and never frees them.
  // c-ares keeps the host's name if the process ends right after gRPC has looked it up.
  return "leak:wcsdup\nleak:libcares.so\n";
}

// What is ours to say goes to standard error; this is not.
extern "C" const char* __lsan_default_options();
extern "C" const char* __lsan_default_options() {
  return "print_suppressions=0";
}

#endif
