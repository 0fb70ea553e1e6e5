keytrail_test(key_codec_test SOURCES unit/common/key_codec_test.cc DEPENDS common)
keytrail_test(key_token_test SOURCES unit/common/key_token_test.cc DEPENDS common)
keytrail_test(confinement_test SOURCES unit/common/confinement_test.cc DEPENDS confinement)
keytrail_test(redact_marks_test SOURCES unit/common/redact_marks_test.cc DEPENDS common)
