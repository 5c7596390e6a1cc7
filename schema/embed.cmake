# Turns the migrations into C: cmake -DOUTPUT=<file.c> -DINPUTS=<a.sql;b.sql> -P embed.cmake
# Bytes, not string literals: a compiler need not accept literals above 4095 bytes.
set(arrays "")
set(rows "")
set(number 0)
foreach(input IN LISTS INPUTS)
    math(EXPR number "${number} + 1")
    file(READ ${input} hex HEX)
    string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
    string(APPEND arrays "static const char migration_${number}[] = { ${bytes}0 };\n")
    string(APPEND rows "    migration_${number},\n")
endforeach()
file(WRITE ${OUTPUT} "/* Written by schema/embed.cmake from schema/migrations. */
#include \"sqlite/migrate.h\"

${arrays}
const char *const lyap_migrations[] = {
${rows}};
const int lyap_migration_count = ${number};
")
