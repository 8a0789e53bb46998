// A translation unit that keeps a C++ compiler busy: template-heavy headers, and many instantiations to optimise.
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <regex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N>
struct Cell {
  std::map<std::string, std::vector<std::tuple<int, double, std::string>>> rows;
  std::unordered_map<int, std::variant<int, std::string, std::vector<double>>> values;

  int work(const std::string& text) {
    std::regex pattern("([a-z]+)" + std::to_string(N));
    for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) {
      rows[(*at)[1]].emplace_back(N, N * 0.5, at->str());
      values[N] = at->str();
    }
    for (auto& [name, row] : rows) std::sort(row.begin(), row.end(), std::greater<>());
    return static_cast<int>(rows.size() + values.size()) + Cell<N - 1>().work(text);
  }
};

template <>
struct Cell<0> {
  int work(const std::string& text) { return static_cast<int>(text.size()); }
};

int main() {
  std::mt19937 random(1);
  std::cout << Cell<60>().work(std::to_string(random())) << "\n";
}
