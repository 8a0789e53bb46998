// Small readers of /proc: values as text, nothing kept.
#pragma once
#include <sys/types.h>
#include <string>
#include <vector>

namespace leap::proc {

std::string path(pid_t pid, const std::string& name);
bool readAll(const std::string& path, std::string* text);              // false: not there (any more)
std::string link(const std::string& path);                             // what a symbolic link holds, "" when missing
std::string statusField(const std::string& status, const char* name);  // of /proc/PID/status, "" when missing
char state(pid_t pid, pid_t tid);                                      // the letter of proc(5), 0 when gone
std::vector<pid_t> threads(pid_t pid);
std::vector<pid_t> children(pid_t pid);  // of all its threads
unsigned long descriptorLimit(
    pid_t pid);  // soft RLIMIT_NOFILE, 0 when unknown; prlimit(2) would ask for CAP_SYS_RESOURCE

}  // namespace leap::proc
