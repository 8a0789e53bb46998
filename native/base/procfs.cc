#include "base/procfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>
#include <cstdlib>
#include <cstring>
#include <sstream>

namespace leap::proc {

std::string path(pid_t pid, const std::string& name) { return "/proc/" + std::to_string(pid) + "/" + name; }

bool readAll(const std::string& path, std::string* text) {
  text->clear();
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char buffer[8192];
  ssize_t got;
  while ((got = ::read(fd, buffer, sizeof buffer)) > 0) text->append(buffer, static_cast<size_t>(got));
  close(fd);
  return got == 0;
}

std::string link(const std::string& path) {
  char text[256];
  const ssize_t got = readlink(path.c_str(), text, sizeof text);
  return got > 0 ? std::string(text, static_cast<size_t>(got)) : "";
}

std::string statusField(const std::string& status, const char* name) {
  const std::string key = std::string("\n") + name + ":";
  const size_t at = ("\n" + status).find(key);
  if (at == std::string::npos) return "";
  size_t from = at + key.size() - 1;
  while (from < status.size() && (status[from] == '\t' || status[from] == ' ')) from++;
  return status.substr(from, status.find('\n', from) - from);
}

char state(pid_t pid, pid_t tid) {
  std::string stat;
  if (!readAll(path(pid, "task/" + std::to_string(tid) + "/stat"), &stat)) return 0;
  const size_t paren = stat.rfind(')');
  return paren == std::string::npos || paren + 2 >= stat.size() ? '\0' : stat[paren + 2];
}

std::vector<pid_t> threads(pid_t pid) {
  std::vector<pid_t> found;
  DIR* directory = opendir(path(pid, "task").c_str());
  if (!directory) return found;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') found.push_back(std::atoi(entry->d_name));
  }
  closedir(directory);
  return found;
}

std::vector<pid_t> children(pid_t pid) {
  std::vector<pid_t> found;
  for (const pid_t tid : threads(pid)) {
    std::string text;
    if (!readAll(path(pid, "task/" + std::to_string(tid) + "/children"), &text)) continue;
    std::istringstream words(text);
    for (pid_t child; words >> child;) found.push_back(child);
  }
  return found;
}

unsigned long descriptorLimit(pid_t pid) {
  static const std::string key = "Max open files";
  std::string text;
  if (!readAll(path(pid, "limits"), &text)) return 0;
  const size_t at = text.find(key);
  return at == std::string::npos ? 0 : std::strtoul(text.c_str() + at + key.size(), nullptr, 10);
}

}  // namespace leap::proc
